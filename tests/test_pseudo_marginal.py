"""Pseudo-marginal Metropolis on reaction networks, against exact marginalisation of a truncated network."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC, NUTS

import mjp
from mjp.inference import PseudoMarginal
from mjp.inference.bootstrap_filter import bootstrap_filter
from mjp.inference.count_graph import evaluate
from mjp.inference.path_law import PathLaw

TIMES = np.array([0.0, 0.6, 1.2, 1.8])
DATA = np.array([np.nan, 7.0, np.nan, 4.0])
KERNEL = PseudoMarginal(lambda: None)


def network(birth, death):
    return mjp.ReactionNetwork([("0 -> X", birth), ("X -> 0", death)])


def rates():
    birth = numpyro.sample("birth", dist.LogNormal(1.0, 0.5))
    return birth, numpyro.sample("death", dist.LogNormal(-0.7, 0.4))


def model(values=DATA):
    graph = mjp.chain(network(*rates()), TIMES, initial=[5])
    graph.observe_each(lambda x: dist.Normal(x["X"], 2.0), values)
    mjp.sample("x", graph, max_events=64)


def marginal():
    process, states = network(*rates()).truncated([5], bounds={"X": 40})
    counts = jnp.append(jnp.asarray(states[:, 0], float), 1e3)  # of the state outside
    chain = mjp.chain(process, TIMES, initial=dist.Categorical(jnp.eye(len(counts))[0]))
    chain.observe_each(lambda x: dist.Normal(counts[x], 2.0), DATA)
    mjp.sample("x", chain)


def run(kernel, warmup, draws, seed):
    mcmc = MCMC(kernel, num_warmup=warmup, num_samples=draws, progress_bar=False)
    mcmc.run(jax.random.key(seed), extra_fields=("accept_prob",))
    return mcmc


@pytest.mark.slow
@pytest.mark.parametrize(("particles", "refreshed"), [(30, 1.0), (8, 0.3)])
def test_draws_have_the_exact_posterior(particles, refreshed):
    """First and second moments of the log-rates agree with NUTS on the truncated network."""
    exact = run(NUTS(marginal), 300, 2000, 0).get_samples()
    kernel = PseudoMarginal(model, particles=particles, moves=5, refreshed=refreshed)
    found = run(kernel, 400, 4000, 1)
    assert 0.2 < np.mean(found.get_extra_fields()["accept_prob"]) < 0.9
    draws = found.get_samples()
    for name in ("birth", "death"):
        for power in (1, 2):
            a, b = (np.log(np.asarray(sample[name])) ** power for sample in (exact, draws))
            sizes = [effective_sample_size(values[None]) for values in (a, b)]
            assert min(sizes) > 300
            error = np.sqrt(a.var() / sizes[0] + b.var() / sizes[1])
            assert abs(a.mean() - b.mean()) < 4 * error
    # paths go with the parameters: nodes near the data, and possible under every draw
    rows = slice(None, None, 40)
    law = lambda birth, death, path: PathLaw(graph_of(birth, death), 64).log_prob(path)
    density = jax.vmap(law)(draws["birth"][rows], draws["death"][rows], draws["x.path"][rows])
    assert np.all(np.isfinite(density))
    ends = jax.vmap(PathLaw(graph_of(3.0, 0.6), 64).nodes)(draws["x.path"])[:, -1, 0]
    assert abs(float(jnp.mean(ends)) - 4.4) < 0.6


def test_estimates_with_random_numbers_in_common_are_correlated():
    """Where one key of four is new, most of the error stays; with others altogether, nothing does."""
    graph = graph_of(3.0, 0.6).observe_each(lambda x: dist.Normal(x["X"], 1.0), [np.nan, 7.0, 5.0, 6.0])
    counts = evaluate(graph, None)
    estimate = jax.jit(
        lambda keys: lax.map(lambda own: bootstrap_filter(counts, own, 20).log_evidence[0], keys)
    )
    keys = jax.random.split(jax.random.key(0), (400, 4))
    some = keys.at[:, 2].set(jax.random.split(jax.random.key(1), 400))
    first, again, other = estimate(keys), estimate(some), estimate(keys[::-1])
    np.testing.assert_array_equal(first, other[::-1])
    old = jax.random.PRNGKey(0)
    np.testing.assert_allclose(
        bootstrap_filter(counts, old, 20).log_evidence,
        bootstrap_filter(counts, jax.random.key(0), 20).log_evidence,
    )
    assert PseudoMarginal(model, refreshed=0.5)._keys(old).ndim == 1
    assert np.corrcoef(first, again)[0, 1] > 0.5
    assert abs(np.corrcoef(first, other)[0, 1]) < 0.2
    assert abs(float(jnp.mean(jnp.exp(first)) / jnp.mean(jnp.exp(again))) - 1) < 0.1


@pytest.mark.parametrize("step", [0.3, 1.0])
def test_moves_are_reversible_for_the_student_t_law(step):
    """Weighted by the ratio that they come with, moves leave every law as likely backward as forward.

    The pair before and after a move, accepted or not, is exchangeable under the law that is preserved: here a
    Gaussian one, away from the moments that the kernel has found. Differences in four standard errors.
    """
    n = 40_000
    mean, covariance = jnp.array([0.5, -1.0]), jnp.array([[1.0, 0.6], [0.6, 0.8]])
    state = SimpleNamespace(mean=mean, covariance=covariance, log_step=jnp.log(step))
    start_key, move_key, accept_key = jax.random.split(jax.random.key(0), 3)
    old = jnp.array([0.0, -0.6]) + 0.8 * jax.random.normal(start_key, (n, 2))
    propose = jax.vmap(lambda x, key: KERNEL._proposed(state, x, key))
    new, ratio = propose(old, jax.random.split(move_key, n))
    energy = lambda x: 0.5 * jnp.sum((x - jnp.array([0.0, -0.6])) ** 2, axis=1) / 0.8**2
    log_accepted = energy(old) - energy(new) + ratio
    accepted = jnp.log(jax.random.uniform(accept_key, (n,))) < log_accepted
    new = jnp.where(accepted[:, None], new, old)
    assert 0.4 < float(jnp.mean(accepted)) < 0.95
    for function in (lambda a, b: a, lambda a, b: a**2, lambda a, b: a**2 * b, lambda a, b: jnp.sin(a) * b):
        gap = function(old, new) - function(new, old)
        error = jnp.std(gap, axis=0) / np.sqrt(n)
        assert np.all(np.abs(jnp.mean(gap, axis=0)) < 4 * error)


def graph_of(birth, death):
    return mjp.chain(network(birth, death), TIMES, initial=[5])


@pytest.mark.filterwarnings("ignore:.*chains have not mixed")
@pytest.mark.filterwarnings("ignore:.*more events on an edge than there is room")
def test_it_is_an_engine_of_fit():
    kernel = PseudoMarginal(model, particles=20, moves=2, refreshed=0.3)
    fit = mjp.fit(model, DATA, engine=kernel, draws=50, warmup=50, chains=2, progress=False)
    assert fit.engine == "PseudoMarginal"
    assert fit.statistics["accept_prob"].shape == (2, 50)
    counts = fit.paths("x", times=np.array([0.0, 1.8]))
    assert np.all(counts.isel(time=0) == 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"particles": 1}, "particles must be at least 2, got 1"),
        ({"moves": 0}, "moves must be"),
        ({"refreshed": 0.0}, r"refreshed must be in \(0, 1\], got 0.0"),
        ({"target_accept_prob": 1.0}, "target_accept_prob must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PseudoMarginal(model, **options)


def test_models_that_it_cannot_sample_are_refused():
    def without_parameters():
        graph = graph_of(3.0, 0.6).observe_each(lambda x: dist.Normal(x["X"], 2.0), DATA)
        mjp.sample("x", graph, max_events=64)

    def without_path():
        numpyro.sample("a", dist.Normal())

    with pytest.raises(ValueError, match="model has no parameters; use particle Gibbs"):
        PseudoMarginal(without_parameters).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(ValueError, match="model has no path of a reaction network"):
        PseudoMarginal(without_path).init(jax.random.key(0), 0, None, (), {})

    def mixed():
        push = numpyro.sample("push", dist.Normal())
        graph = mjp.Graph().root("s", dist.Categorical(jnp.array([0.4, 0.6]))).root("x", dist.Normal())
        graph.edge(("s", "x"), "y", mjp.ConditionalGaussian(lambda s, x: x + push * s, 0.1))
        mjp.sample("y", graph.observe("y", lambda y: dist.Normal(y[0], 0.5), 1.0))

    def guided_alone():
        drift = numpyro.sample("drift", dist.Normal())
        chain = mjp.chain(mjp.Diffusion(lambda t, x: drift * jnp.sin(x), 0.3), range(2), initial=0.0, steps=2)
        mjp.sample("walk", chain.observe_each(lambda x: dist.Normal(x[0], 0.1), [np.nan, 0.3]))
        model()

    with pytest.raises(ValueError, match="refreshed: the filter of 'y', whose graph mixes families"):
        PseudoMarginal(mixed, refreshed=0.5).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(
        ValueError, match=r"path of 'walk.innovations' is that of a guided graph of one family"
    ):
        PseudoMarginal(guided_alone).init(jax.random.key(0), 0, None, (), {})
