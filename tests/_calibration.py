"""Simulation-based calibration (Talts et al. 2018) of the engine that `mjp.fit` chooses for a model.

Parameters are drawn from the prior, data given the parameters, and the posterior given the data; the ranks of
the parameters among thinned posterior draws are then uniform. Every replication prepares the model, chooses
the engine and runs the kernel as `mjp.fit` does, inside of programs that have the data as an argument, so
that compilation is paid once; `test_a_replication_is_a_fit` holds that the draws are those of `mjp.fit`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro.handlers import seed, substitute, trace
from scipy.stats import chi2

import mjp
from mjp.fitting.anchoring import PreparedModel, prepared
from mjp.fitting.chains import HASTY
from mjp.fitting.engines import choose_engine
from mjp.numpyro_bridge import HIDDEN, recording, structure_only

LIMIT = 1e-3  # of the p-value, for each parameter


def with_values(graph, values):
    """The graph with the values of its first observations replaced, by a list those of all; None keeps them.

    The values may be traced.
    """
    if values is None:
        return graph
    own = values if isinstance(values, list) else [values]
    replaced = [
        dataclasses.replace(old, values=new) for old, new in zip(graph.observations, own, strict=False)
    ]
    graph.observations = [*replaced, *graph.observations[len(own) :]]
    return graph


def started(model, args, key, warmup, particles=None):
    """What `mjp.fit` prepares for a model, and the first state of a chain."""
    own = prepared(model, args, {}) if particles is None else model
    options = own.options if isinstance(own, PreparedModel) else {}
    _, make_kernel = choose_engine(own, "auto", args, {}, particles=particles)
    return options, make_kernel().init(key, warmup, None, args, {})


def advanced(model, args, options, state, warmup, draws, thin=1, particles=None):
    """Draws of all sites (draws // thin, ...) of one chain of the engine that `mjp.fit` chooses."""
    own = PreparedModel(model, options) if options else model
    _, make_kernel = choose_engine(own, "auto", args, {}, particles=particles)
    kernel = make_kernel()
    with structure_only():  # sets up the kernel's functions
        kernel.init(jax.random.key(0), warmup, None, args, {})
    constrain = kernel.postprocess_fn(args, {})

    def keep(state, _):
        state = lax.fori_loop(0, thin, lambda _, s: kernel.sample(s, args, {}), state)
        return state, constrain(getattr(state, kernel.sample_field))

    _, found = lax.scan(keep, state, length=(warmup + draws) // thin)
    return jax.tree.map(lambda leaf: leaf[warmup // thin :], found)


def ranks(model, *, replications, warmup, draws, thin, particles=None, every_observation=False, key=2026):
    """Ranks of the true parameters among thinned posterior draws, (replications, parameters).

    Args:
        model: of the values of the first observations of its graph, which it returns; None leaves those with
            which it was declared.
        every_observation: the model takes a list of the values of all observations, not those of the first.
        particles: of pseudo-marginal moves, where a pilot run would choose these; it cannot have the data as
            an argument.
    """

    def start(key):
        prior_key, data_key, chain_key = jax.random.split(key, 3)
        with structure_only():
            sites = trace(seed(model, prior_key)).get_trace(None)
        latent = {k: s for k, s in sites.items() if s["type"] == "sample" and not s["is_observed"]}
        truth = {k: s["value"] for k, s in latent.items() if not k.endswith(HIDDEN)}
        with recording():
            graph = substitute(model, truth)(None)
        values = list(mjp.simulate(graph, data_key).observations)
        values = values if every_observation else values[0]
        return truth, values, started(model, (values,), chain_key, warmup, particles)

    def rank(truth, values, begun):
        found = advanced(model, (values,), *begun, warmup, draws, thin, particles)
        below = {k: jnp.sum(found[k] < truth[k], axis=0).reshape(-1) for k in truth}
        return jnp.concatenate([below[k] for k in sorted(below)])

    every = lambda function: jax.jit(lambda inputs: lax.map(function, inputs))
    keys = jax.random.split(jax.random.key(key), replications)
    begun = every(start).lower(keys).compile(compiler_options=HASTY)(keys)
    return np.asarray(every(lambda inputs: rank(*inputs))(begun))


def p_values(found, n_draws, bins):
    """Of the chi-square test that ranks (replications, parameters) among n_draws draws are uniform."""
    edges = np.linspace(-0.5, n_draws + 0.5, bins + 1)
    expected = len(found) * np.histogram(np.arange(n_draws + 1), edges)[0] / (n_draws + 1)
    counts = np.stack([np.histogram(column, edges)[0] for column in found.T])
    return chi2.sf(np.sum((counts - expected) ** 2 / expected, axis=1), bins - 1), counts


def check_calibrated(model, *, bins, draws, thin, **options):
    numbers = {"draws": draws, "thin": thin, **options}
    found = ranks(model, **numbers)
    p, counts = p_values(found, draws // thin, bins)
    print(f"{model.__name__}: p-values {np.round(p, 3)}")  # pytest -s shows it
    assert np.all(p > LIMIT), (p, counts)
