"""What is wrong with a declared graph of vector states is told with the argument, what came and where."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import mjp

EYE, TIMES = np.eye(2), np.arange(3)
PLANE = mjp.LinearGaussian(EYE, covariance=EYE)
LINE = mjp.Diffusion(lambda t, x: -x, 1.0)
HYPO = mjp.Diffusion(lambda t, x: jnp.array([x[1], -x[0]]), jnp.array([[0.0], [1.0]]), 2)
START = jnp.zeros(2)


def chain(process=PLANE, initial=START, **options):
    return mjp.chain(process, TIMES, initial=initial, **options)


def observed(likelihood, values, **options):
    return mjp.condition(chain(**options).observe_each(likelihood, values))


SEE = mjp.LinearGaussianObservation(EYE[:1], 1.0)

BAD = {
    "drift not a function": (
        lambda: mjp.Diffusion(1.0, 1.0),
        TypeError,
        r"drift must be a function of \(t, x\), got float",
    ),
    "drift of one argument": (
        lambda: mjp.Diffusion(lambda x: x, 1.0),
        TypeError,
        r"drift must take 2 arguments, or 3 with a mapping",
    ),
    "drift shape": (
        lambda: mjp.Diffusion(lambda t, x: jnp.ones(3), 1.0, 2),
        ValueError,
        r"drift must return shape \(2,\), got \(3,\)",
    ),
    "dispersion shape": (
        lambda: mjp.Diffusion(lambda t, x: x, lambda t, x: jnp.ones((3, 1)), 2),
        ValueError,
        r"dispersion must return shape \(2,\) or \(2, r\), got \(3, 1\)",
    ),
    "convention": (
        lambda: mjp.Diffusion(lambda t, x: x, 1.0, convention="strat"),
        ValueError,
        r"convention must be 'ito', 'stratonovich' or a number, got 'strat'",
    ),
    "scheme": (
        lambda: mjp.Diffusion(lambda t, x: x, 1.0, scheme="milstein"),
        ValueError,
        r"scheme must be one of .*, got 'milstein'",
    ),
    "dim": (
        lambda: mjp.Diffusion(lambda t, x: x, 1.0, 0),
        ValueError,
        r"dim must be a positive integer, got 0",
    ),
    "mean not a function": (
        lambda: mjp.StateSpace(1.0, EYE),
        TypeError,
        r"mean must be a function of the state, got float",
    ),
    "no covariance": (
        lambda: mjp.StateSpace(lambda x: x),
        TypeError,
        r"give either covariance or factor",
    ),
    "mean shape": (
        lambda: mjp.StateSpace(lambda x: x[:1], EYE),
        ValueError,
        r"mean must return shape \(2,\), got \(1,\)",
    ),
    "covariance function without dim": (
        lambda: mjp.StateSpace(lambda x: x, lambda x: EYE),
        TypeError,
        r"dim must be given where covariance is a function",
    ),
    "negative covariance": (
        lambda: mjp.StateSpace(lambda x: x, -EYE),
        ValueError,
        r"covariance must be positive semi-definite, got the eigenvalue -1",
    ),
    "asymmetric covariance": (
        lambda: mjp.LinearGaussian(EYE, covariance=np.array([[1.0, 0.5], [0.0, 1.0]])),
        ValueError,
        r"covariance must be symmetric",
    ),
    "NaN matrix": (
        lambda: mjp.LinearGaussian(EYE * np.nan, covariance=EYE),
        ValueError,
        r"matrix must be finite, got nan",
    ),
    "offset shape": (
        lambda: mjp.LinearGaussian(EYE, np.ones(3), EYE),
        ValueError,
        r"offset must have shape \(2,\).*got \(3,\)",
    ),
    "covariance shape": (
        lambda: mjp.LinearGaussian(EYE, covariance=np.eye(3)),
        ValueError,
        r"covariance must have shape \(2, 2\).*got \(3, 3\)",
    ),
    "linear diffusion dispersion": (
        lambda: mjp.LinearDiffusion(EYE, dispersion=np.ones(2)),
        ValueError,
        r"dispersion must have shape \(2, r\), got \(2,\)",
    ),
    "linear diffusion without dispersion": (
        lambda: mjp.LinearDiffusion(EYE),
        TypeError,
        r"dispersion must be given",
    ),
    "observation covariance": (
        lambda: mjp.LinearGaussianObservation(EYE, -EYE),
        ValueError,
        r"covariance must be positive definite, got the eigenvalue -1",
    ),
    "observation covariance shape": (
        lambda: mjp.LinearGaussianObservation(EYE, np.eye(3)),
        ValueError,
        r"covariance must have shape \(2, 2\), got \(3, 3\)",
    ),
    "observation columns": (
        lambda: observed(mjp.LinearGaussianObservation(np.eye(3), 1.0), np.zeros((3, 3))),
        ValueError,
        r"matrix must have 2 columns, one per coordinate, got \(3, 3\)",
    ),
    "observation per time": (
        lambda: observed(mjp.LinearGaussianObservation(EYE, np.ones((2, 2, 2)) + 5 * EYE), np.zeros((3, 2))),
        ValueError,
        r"covariance must have one entry per observation \(3\)",
    ),
    "values of the wrong size": (
        lambda: observed(SEE, np.zeros((3, 2))),
        ValueError,
        r"shape",
    ),
    "infinite value": (
        lambda: observed(SEE, np.array([[0.0], [np.inf], [1.0]])),
        ValueError,
        r"inf",
    ),
    "not a count": (
        lambda: observed(lambda x: dist.Poisson(jnp.exp(x[0])), np.array([1.0, 0.5, 2.0])),
        ValueError,
        r"0\.5 at node 1 is not a count, which Poisson describes",
    ),
    "misclassified vectors": (
        lambda: observed(mjp.Misclassified(EYE), np.zeros(3)),
        TypeError,
        r"Misclassified is for processes with finitely many states",
    ),
    "likelihood without law": (
        lambda: observed(lambda x: x[0], np.zeros(3)),
        TypeError,
        r"likelihood must return a Distribution",
    ),
    "initial shape": (
        lambda: mjp.condition(chain(initial=jnp.zeros(3))),
        ValueError,
        r"initial: the state at node 0 must have shape \(2,\), got \(3,\)",
    ),
    "initial NaN": (
        lambda: mjp.condition(chain(initial=jnp.array([0.0, jnp.nan]))),
        ValueError,
        r"initial: the state at node 0 must be finite",
    ),
    "initial law": (
        lambda: mjp.condition(chain(initial=dist.Gamma(1.0, 1.0))),
        ValueError,
        r"initial must be a value, or a Normal or MultivariateNormal law of 2 coordinates, got Gamma",
    ),
    "mixed sizes": (
        lambda: mjp.condition(mjp.Graph().root("a", jnp.zeros(2)).edge("a", "b", PLANE).edge("b", "c", LINE)),
        ValueError,
        r"all edges need states of the same size, got 2 and 1",
    ),
    "steps": (
        lambda: chain(LINE, jnp.zeros(1), steps=0),
        ValueError,
        r"steps must be a positive integer, got 0",
    ),
    "auxiliary": (
        lambda: mjp.condition(chain(LINE, jnp.zeros(1)), auxiliary="mean"),
        ValueError,
        r"auxiliary must be a linear process, anchors of an earlier condition, or one of .*'guided mean'",
    ),
    "nonlinear auxiliary": (
        lambda: mjp.condition(chain(LINE, jnp.zeros(1)), auxiliary=mjp.Diffusion(lambda t, x: x**3, 1.0)),
        ValueError,
        r"auxiliary must have an affine mean",
    ),
    "damping": (
        lambda: mjp.condition(chain(LINE, jnp.zeros(1)), damping=0.0),
        ValueError,
        r"damping must be in \(0, 1\], got 0",
    ),
    "iterations": (
        lambda: mjp.condition(chain(LINE, jnp.zeros(1)), iterations=0),
        ValueError,
        r"iterations must be a positive integer, got 0",
    ),
    "drift that explodes": (
        lambda: observed(
            lambda x: dist.Normal(x[0], 1.0),
            np.ones(3),
            process=mjp.Diffusion(lambda t, x: jnp.exp(1e3 * x), 1.0),
            initial=jnp.ones(1),
        ),
        ValueError,
        r"the backward filter is not finite .*drift or dispersion of the step at time 0, on the way to node",
    ),
    "exact observation of a root": (
        lambda: observed(mjp.Exactly(), np.zeros((3, 2))),
        ValueError,
        r"node 0 is a root and cannot be observed exactly; give its value as initial",
    ),
    "part of an exact observation": (
        lambda: observed(mjp.Exactly(), np.array([[np.nan, np.nan], [1.0, np.nan], [1.0, 1.0]])),
        ValueError,
        r"an exact observation must be missing or whole, got a part at node 1",
    ),
    "exact observation out of reach": (
        lambda: observed(
            mjp.LinearGaussianObservation(EYE[:1], 0.0), np.array([np.nan, 1.0, 2.0])[:, None], process=HYPO
        ),
        ValueError,
        r"the exact observation at node 1 cannot be reached.*scheme='local linearisation'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    call, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        call()


def test_a_step_that_leaves_the_numbers_is_named_with_its_time_and_node():
    process = mjp.Diffusion(lambda t, x: jnp.where(t > 1.2, jnp.inf, -x), 1.0)
    graph = mjp.chain(process, TIMES, initial=jnp.ones(1), steps=4)
    place = r"at time 1\.5, on the way to node 2"
    with pytest.raises(ValueError, match=r"the simulated path is not finite from the state " + place):
        mjp.simulate(graph, jax.random.key(0))
    graph.observe_each(lambda x: dist.Normal(x[0], 1.0), np.ones(3))
    with pytest.raises(ValueError, match=r"step at time 1\.25, on the way to node 2, is not finite"):
        mjp.condition(graph)


def test_a_path_that_explodes_is_named_with_its_time_and_node():
    """A cubic drift that grows: Euler steps double the number of digits, each."""
    process = mjp.Diffusion(lambda t, x: 50 * x**3, 1.0)
    graph = mjp.chain(process, TIMES, initial=jnp.full(1, 3.0), steps=10)
    with pytest.raises(ValueError, match=r"not finite from the state at time 0\.\d, on the way to node 1"):
        mjp.simulate(graph, jax.random.key(0))
    tree = mjp.tree("((a:1,b:1)m:0.1,c:0.2)r;", process, initial=jnp.full(1, 3.0), steps=10)
    with pytest.raises(ValueError, match=r"from the state at time 0\.\d+, on the way to node '[cm]'"):
        mjp.simulate(tree, jax.random.key(0))


def test_a_singular_step_before_an_exact_observation_is_named():
    process = mjp.Diffusion(lambda t, x: -x, lambda t, x: jnp.maximum(x - 5.0, 0.0))
    graph = mjp.chain(process, TIMES, initial=jnp.full(1, 9.0))
    graph.observe_each(mjp.Exactly(), np.array([np.nan, 1.0, 2.0]))
    with pytest.raises(ValueError, match=r"the exact observation at node 1 cannot be reached"):
        mjp.condition(graph)


def test_a_fit_that_cannot_start_names_the_place():
    def model(y):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 0.1))
        process = mjp.Diffusion(lambda t, x: jnp.where(t > 1.2, jnp.inf, -rate * jnp.sin(x)), 1.0)
        graph = mjp.chain(process, TIMES, initial=jnp.ones(1), steps=4)
        graph.observe_each(lambda x: dist.Normal(x[0], 0.1), y)
        mjp.sample("x", graph, auxiliary="prior mean")

    with pytest.raises(ValueError, match=r"time .* on the way to node"):
        mjp.fit(model, np.ones(3), draws=2, warmup=2, chains=1, progress=False)


def test_noise_that_depends_on_what_is_not_seen_is_explained():
    process = mjp.Diffusion(lambda t, x: -x, lambda t, x: jnp.array([1.0 + x[1] ** 2, 1.0]), 2)
    graph = mjp.chain(process, TIMES, initial=START)
    graph.observe_each(mjp.LinearGaussianObservation(EYE[:1], 0.0), np.array([np.nan, 1.0, 2.0])[:, None])
    with pytest.warns(UserWarning, match=r"noise along an exact observation depends on coordinates"):
        mjp.condition(graph)
