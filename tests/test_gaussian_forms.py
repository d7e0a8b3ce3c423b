"""The forms of Gaussian potentials against joint normal laws in NumPy, down to observations without noise."""

import dataclasses
from decimal import Decimal, localcontext

import equinox as eqx
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import log_density
from scipy.stats import laplace, multivariate_normal, norm

import mjp
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import RowPotential, canonical_of
from mjp.inference.potentials.square_root import SquareRootRows
from mjp.inference.potentials.stacked import StackedRows

NEW = ("square root", "stacked")
RNG = np.random.default_rng(3)
TIMES = 7
MEAN, SPREAD = np.array([0.3, -0.2]), np.array([[0.5, 0.1], [0.1, 0.4]])
LOOK = np.array([[1.0, 0.5], [0.0, 1.0]])
STEPS = {
    "elliptic": (np.array([[0.9, 0.2], [-0.1, 0.8]]), np.array([[0.3, 0.1], [0.1, 0.2]])),
    "hypo-elliptic": (np.array([[1.0, 0.1], [-0.1, 0.9]]), np.diag([0.0, 0.1])),
    "deterministic": (np.array([[0.9, 0.2], [-0.1, 0.8]]), np.zeros((2, 2))),
}


DIGITS = 60


def decimals(array):
    """Numbers as decimals: nearly exact observations leave float64 too few digits of a dense matrix."""
    return np.vectorize(Decimal, otypes=[object])(array)


def eliminated(matrix, right):
    """Solution (n, k) of a positive definite system and the logarithm of its determinant."""
    rows, log_determinant = np.concatenate([matrix, right], axis=1), 0.0
    for i in range(len(rows)):
        log_determinant += np.log(float(rows[i, i]))
        rows[i] = rows[i] / rows[i, i]
        for j in range(len(rows)):
            if j != i:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, len(rows) :], log_determinant


class Truth:
    """The law of all states of a chain or tree, and of what is seen of them, in dense matrices."""

    def __init__(self, parents, matrix, covariance, mean=MEAN, spread=SPREAD, numbers=decimals):
        self.numbers = numbers
        with localcontext(prec=DIGITS):
            self.exact = self._law(parents, matrix, covariance, mean, spread)
        self.mean, self.covariance = (array.astype(float) for array in self.exact)
        self.n, self.d = len(parents), len(mean)

    def _law(self, parents, matrix, covariance, mean, spread):
        n, d = len(parents), len(mean)
        matrix, covariance, mean, spread = map(self.numbers, (matrix, covariance, mean, spread))
        # influence: of the first state and of all noise on all states
        influence, noise = (self.numbers(np.zeros((n * d, n * d))) for _ in range(2))
        means = self.numbers(np.zeros(n * d))
        for i, parent in enumerate(parents):
            at = slice(i * d, i * d + d)
            influence[at, at] = self.numbers(np.eye(d))
            noise[at, at] = spread if parent < 0 else covariance
            means[at] = mean
            if parent >= 0:
                above = slice(parent * d, parent * d + d)
                influence[at] += matrix @ influence[above]
                means[at] = matrix @ means[above]
        return means, influence @ noise @ influence.T

    def given(self, look, sd, y):
        """Log-density of values (n, k), NaN where missing, and the mean of the states given them."""
        with localcontext(prec=DIGITS):
            return self._given(look, sd, y)

    def _given(self, look, sd, y):
        means, covariance = self.exact
        seen = ~np.isnan(y.reshape(-1))
        big = self.numbers(np.kron(np.eye(self.n), look)[seen])
        noise = self.numbers(np.diag(np.tile(np.broadcast_to(sd, (len(look),)) ** 2, self.n)[seen]))
        error = self.numbers(y.reshape(-1)[seen]) - big @ means
        solved, log_determinant = eliminated(big @ covariance @ big.T + noise, error[:, None])
        mean = means + covariance @ big.T @ solved[:, 0]
        log_density = -0.5 * (float(error @ solved[:, 0]) + log_determinant + seen.sum() * np.log(2 * np.pi))
        return log_density, mean.astype(float).reshape(self.n, self.d)


def chain_truth(name, n=TIMES, numbers=decimals):
    return Truth(np.arange(n) - 1, *STEPS[name], numbers=numbers)


def chain(name, sd, y, look=LOOK):
    matrix, covariance = STEPS[name]
    root = dist.MultivariateNormal(jnp.asarray(MEAN), jnp.asarray(SPREAD))
    graph = mjp.chain(
        mjp.LinearGaussian(jnp.asarray(matrix), covariance=jnp.asarray(covariance)),
        np.arange(len(y)),
        initial=root,
    )
    variance = np.broadcast_to(sd, (len(look),)) ** 2
    return graph.observe_each(mjp.LinearGaussianObservation(look, variance), jnp.asarray(y))


def middle(guided):
    """The path whose innovations are zero: the mean, where the law of the path is normal."""
    return guided.push({k: jnp.zeros(s) for k, s in guided.innovations.items()})


def values(name, sd, seed=0):
    """Observations that the model may have made, one of two missing here and both there."""
    rng = np.random.default_rng(seed)
    truth = chain_truth(name)
    states = rng.multivariate_normal(truth.mean, truth.covariance, method="eigh").reshape(TIMES, 2)
    y = states @ LOOK.T + sd * rng.normal(size=(TIMES, 2))
    y[0, 0] = y[2, 1] = np.nan
    y[4] = np.nan
    return y


@pytest.mark.parametrize(
    ("name", "sd"),
    [
        ("elliptic", 0.3),
        ("elliptic", 1e-3),
        ("elliptic", 1e-6),
        ("hypo-elliptic", 0.3),
        ("hypo-elliptic", 1e-3),
        ("hypo-elliptic", 1e-6),
        ("deterministic", 0.3),
    ],
)
@pytest.mark.parametrize("form", NEW)
def test_evidence_and_means_of_chains(form, name, sd):
    y = values(name, sd)
    log_density, mean = chain_truth(name).given(LOOK, sd, y)
    guided = mjp.condition(chain(name, sd, y), form=form)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, log_density, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(guided.terms), log_density, rtol=1e-6)
    path, log_weight = middle(guided)
    np.testing.assert_allclose(path.values, mean, atol=1e-7)
    assert log_weight == 0.0


@pytest.mark.parametrize("form", NEW)
def test_draws_have_the_covariance_of_the_smoothing_law(form):
    y = values("hypo-elliptic", 0.3)
    truth = chain_truth("hypo-elliptic")
    guided = mjp.condition(chain("hypo-elliptic", 0.3, y), form=form)
    names = list(guided.innovations.items())
    sizes = [int(np.prod(shape)) for _, shape in names]

    def draw(flat):
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        z = {name: part.reshape(shape) for (name, shape), part in zip(names, parts, strict=True)}
        return guided.push(z)[0].values.reshape(-1)

    slope = jax.jit(jax.vmap(draw))(jnp.eye(sum(sizes))) - draw(jnp.zeros(sum(sizes)))
    seen = ~np.isnan(y.reshape(-1))
    big = np.kron(np.eye(TIMES), LOOK)[seen]
    total = big @ truth.covariance @ big.T + 0.09 * np.eye(len(big))
    gain = np.linalg.solve(total, big @ truth.covariance).T
    np.testing.assert_allclose(slope.T @ slope, truth.covariance - gain @ big @ truth.covariance, atol=1e-9)


TREE = nx.DiGraph([("r", "u"), ("r", "v"), ("u", "a"), ("u", "b"), ("u", "c"), ("v", "d")])
ORDER = ["r", "u", "v", "a", "b", "c", "d"]


@pytest.mark.parametrize("sd", [0.3, 1e-5])
@pytest.mark.parametrize("form", NEW)
def test_evidence_and_means_of_trees(form, sd):
    matrix, covariance = STEPS["hypo-elliptic"]
    truth = Truth([-1, 0, 0, 1, 1, 1, 2], matrix, covariance)
    y = np.full((7, 2), np.nan)
    y[2:, 0] = RNG.normal(size=5)
    y[3, 1] = 0.2
    log_density, mean = truth.given(LOOK, sd, y)
    graph = mjp.Graph()
    graph.root("r", dist.MultivariateNormal(MEAN, SPREAD))
    process = mjp.LinearGaussian(matrix, covariance=covariance)
    for parent, child in TREE.edges:
        graph.edge(parent, child, process)
    for node, value in zip(ORDER, y, strict=True):
        if not np.isnan(value).all():
            graph.observe(node, mjp.LinearGaussianObservation(LOOK, sd**2), value)
    guided = mjp.condition(graph, form=form)
    np.testing.assert_allclose(guided.log_evidence, log_density, rtol=1e-8)
    path, _ = middle(guided)
    for node, state in zip(ORDER, mean, strict=True):
        np.testing.assert_allclose(path[node], state, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("form", NEW)
def test_several_series_of_an_integrated_diffusion_in_steps(form):
    """Steps within edges, a known first state, and a row more than there are coordinates."""
    process = mjp.LinearDiffusion(np.array([[0.0, 1.0], [0.0, -0.5]]), dispersion=np.array([[0.0], [0.7]]))
    y = RNG.normal(size=(2, 4, 3))
    y[0, 1] = y[1, 3, 0] = y[1, 2, 1:] = np.nan
    graph = mjp.chain(process, [0.0, 0.2, 0.5, 0.9], initial=jnp.array([0.1, 0.4]), steps=2)
    see = mjp.LinearGaussianObservation(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), [0.1, 0.5, 2.0])
    graph.observe_each(see, y)
    guided, plain = mjp.condition(graph, form=form), mjp.condition(graph)
    np.testing.assert_allclose(guided.log_evidence, plain.log_evidence, rtol=1e-10)
    np.testing.assert_allclose(middle(guided)[0].values, middle(plain)[0].values, atol=1e-9)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", ["elliptic", "hypo-elliptic"])
def test_exact_observations_of_states_that_noise_reaches_late_or_in_part(name, missing):
    """One step of the hypo-elliptic process does not move what is seen, and entries are missing."""
    y = values(name, 0.0) if missing else values(name, 0.0)[:, :1]
    look = LOOK if missing else np.array([[1.0, 0.0]])
    if missing:
        y[:, 1] = np.where(np.arange(TIMES) == 3, y[:, 1], np.nan)
        look = np.array([[1.0, 0.0], [0.0, 1.0]])
    truth = chain_truth(name)
    states = np.random.default_rng(0).multivariate_normal(truth.mean, truth.covariance, method="eigh")
    y = np.where(np.isnan(y), np.nan, (states.reshape(TIMES, 2) @ look.T))
    log_density, mean = truth.given(look, 0.0, y)
    guided = mjp.condition(chain(name, 0.0, y, look), form="stacked")
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, log_density, rtol=1e-6)
    np.testing.assert_allclose(jnp.sum(guided.terms), log_density, rtol=1e-6)
    np.testing.assert_allclose(middle(guided)[0].values, mean, atol=1e-6)
    drawn, log_weight = guided.sample(jax.random.key(0))
    seen = ~np.isnan(y)
    np.testing.assert_allclose((drawn.values @ look.T)[seen], y[seen], atol=1e-8)
    assert log_weight == 0.0


def test_a_first_state_that_is_seen_exactly_and_noisily():
    root = dist.MultivariateNormal(MEAN, SPREAD)
    matrix, covariance = STEPS["elliptic"]
    graph = mjp.Graph()
    graph.root("a", root).edge("a", "b", mjp.LinearGaussian(matrix, covariance=covariance))
    graph.observe("a", mjp.LinearGaussianObservation([[1.0, 0.0]], 0.0), [0.7])
    graph.observe("a", mjp.LinearGaussianObservation([[1.0, 1.0]], 0.2), [0.1])
    graph.observe("b", mjp.Exactly(), [0.5, 0.4])
    look = np.array([[1.0, 0, 0, 0], [1.0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]])
    truth = Truth([-1, 0], matrix, covariance)
    total = look @ truth.covariance @ look.T + np.diag([0.0, 0.2, 0.0, 0.0])
    expected = multivariate_normal(look @ truth.mean, total).logpdf([0.7, 0.1, 0.5, 0.4])
    guided = mjp.condition(graph, form="stacked")
    np.testing.assert_allclose(guided.log_evidence, expected, rtol=1e-10)
    drawn, _ = guided.sample(jax.random.key(1))
    np.testing.assert_allclose(drawn["a"][0], 0.7, atol=1e-12)
    np.testing.assert_allclose(drawn["b"], [0.5, 0.4], atol=1e-12)


def test_exact_observations_that_leave_nothing_to_chance_are_refused():
    y = np.zeros((TIMES, 1))
    with pytest.raises(ValueError, match=r"exact observations leave nothing to chance"):
        mjp.condition(chain("deterministic", 0.0, y, np.array([[1.0, 0.0]])), form="stacked")


class TestFloat32:
    """A float32 Kalman filter keeps three decimals here; a precision of 1e8 and more leaves none."""

    @pytest.fixture(autouse=True)
    def single(self):
        with jax.enable_x64(False):
            yield

    @pytest.mark.parametrize("sd", [0.3, 1e-3, 1e-5])
    @pytest.mark.parametrize("form", NEW)
    def test_long_chains_with_little_noise(self, form, sd):
        rng, n, look = np.random.default_rng(1), 300, np.array([[1.0, 0.5]])
        matrix, covariance = STEPS["elliptic"]
        lower, states = np.linalg.cholesky(covariance), np.zeros((n, 2))
        for t in range(1, n):
            states[t] = matrix @ states[t - 1] + lower @ rng.normal(size=2)
        y = (states @ look.T + sd * rng.normal(size=(n, 1))).astype(np.float32).astype(float)
        log_density, mean = chain_truth("elliptic", n, np.array).given(look, sd, y)
        guided = mjp.condition(chain("elliptic", sd, y, look), form=form)
        assert guided.log_evidence.dtype == jnp.float32
        np.testing.assert_allclose(guided.log_evidence, log_density, atol=0.01)
        np.testing.assert_allclose(middle(guided)[0].values, mean, atol=1e-3)

    def test_values_whose_squares_in_units_of_the_noise_overflow(self):
        look, sd = np.array([[1.0, 0.5]]), 3e-19
        y = np.full((4, 1), 40.0)
        log_density, mean = chain_truth("elliptic", 4).given(look, sd, y)
        with pytest.raises(ValueError, match="not finite"):
            mjp.condition(chain("elliptic", sd, y, look))
        guided = mjp.condition(chain("elliptic", sd, y, look), form="stacked")
        np.testing.assert_allclose(guided.log_evidence, log_density, rtol=1e-5)
        np.testing.assert_allclose(middle(guided)[0].values, mean, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", ["square root", pytest.param("stacked", marks=pytest.mark.slow)])
def test_gradients_equal_finite_differences(form):
    """Also where a coordinate is coupled to nothing that is seen, so that H is singular."""
    y = np.random.default_rng(2).normal(size=(5, 2))
    y[1] = y[4, 0] = np.nan

    def evidence(theta):
        matrix = jnp.array([[0.9, 0.0], [-0.1, 0.8]]).at[0, 1].add(theta[0])
        process = mjp.LinearGaussian(matrix, 0.1 * theta[1], jnp.diag(jnp.array([0.3, 0.0])) * theta[2])
        root = dist.MultivariateNormal(jnp.asarray(MEAN), jnp.asarray(SPREAD))
        graph = mjp.chain(process, np.arange(5), initial=root)
        look = jnp.array([[1.0, 0.0], [2.0, 0.0]]).at[1, 1].add(theta[3])
        noise = jnp.array([0.01, 0.4]) * theta[4]
        graph.observe_each(mjp.LinearGaussianObservation(look, noise), y)
        return mjp.condition(graph, form=form).log_evidence

    theta = jnp.array([0.0, 1.0, 0.9, 0.0, 1.1])
    evaluate = jax.jit(jax.vmap(evidence))
    gradient = jax.jit(jax.grad(evidence))(theta)
    step = 1e-4 * jnp.eye(5)
    found = evaluate(jnp.concatenate([theta + step, theta - step]))
    np.testing.assert_allclose(gradient, (found[:5] - found[5:]) / 2e-4, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("form", NEW)
def test_second_derivatives_are_those_of_the_canonical_form(form):
    """With coordinates that are not coupled, where a root of H has no derivatives."""
    g = jnp.array([[0.0], [0.7]])

    def log_pulled(theta, rows):
        one = jnp.ones(())
        matrix = jnp.array([[1.0, 0.0], [0.0, 0.0], [2.0, 0.0]]).at[0, 1].add(theta[0])
        matrix, target = matrix * theta[1], jnp.array([0.3, 0.0, -0.5])
        if rows == "square root":
            seen = SquareRootRows(matrix, target)
            potential = RowPotential(
                SquareRootRows.unit((), 2, matrix.dtype), Canonical.unit((), 2, one.dtype)
            )
        elif rows == "stacked":
            seen = StackedRows(matrix, jnp.eye(3), target, False)
            unit = StackedRows.unit((), 2, matrix.dtype, False)
            potential = RowPotential(unit, Canonical.unit((), 2, one.dtype))
        else:
            seen, potential = None, canonical_of(matrix, target)
        if seen is not None:
            potential = potential.fuse(RowPotential(seen, Canonical.unit((), 2, one.dtype)))
        step = jnp.array([[0.9, 0.0], [-0.1, 0.8]]).at[0, 1].add(theta[2])
        pulled = potential.pull_back(potential.gain(g), step, jnp.array([0.1, theta[0]]))
        potential = pulled.fuse(potential)
        return potential.log_pulled(potential.gain(jnp.eye(2)), jnp.array([0.2, -0.4]))

    theta = jnp.array([0.0, 1.1, 0.0])
    found, expected = (jax.jit(jax.hessian(lambda t, r=r: log_pulled(t, r)))(theta) for r in (form, None))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def weights(guided, n, seed=0):
    keys = jax.random.split(jax.random.key(seed), n)
    draw = lambda g, k: jax.lax.map(lambda key: g.sample(key)[1], k, batch_size=1000)
    return np.asarray(eqx.filter_jit(draw)(guided, keys))


@pytest.mark.parametrize("form", NEW)
def test_law_1(form):
    """The auxiliary is the process itself: weights are computed, and zero for every path."""
    process = mjp.Diffusion(
        lambda t, x: jnp.array([x[1], -x[0] - 0.3 * x[1]]), lambda t, x: jnp.array([[0.0], [jnp.exp(t)]]), 2
    )
    graph = mjp.chain(process, [0.0, 0.5, 1.0], initial=dist.Normal(jnp.zeros(2), 1.0), steps=3)
    graph.observe_each(lambda x: dist.Normal(x[0] + 0.2 * x[1], 1e-4), jnp.array([0.1, jnp.nan, -0.4]))
    guided = mjp.condition(graph, form=form, auxiliary=process)
    found = weights(dataclasses.replace(guided, exact=False, expanded=False), 3)
    np.testing.assert_allclose(found, 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("form", "observation", "options"),
    [
        ("square root", "nearly exact", {"auxiliary": "observations"}),
        pytest.param("stacked", "nearly exact", {}, marks=pytest.mark.slow),
        pytest.param("stacked", "exact", {"auxiliary": "observations"}, marks=pytest.mark.slow),
        ("square root", "tilted", {"auxiliary": "prior mean"}),
        ("stacked", "tilted", {"auxiliary": "prior mean"}),
    ],
)
def test_law_2(form, observation, options):
    """A double well by quadrature; a Laplace law has a slope and no curvature."""
    steps, dt = 6, 1 / 6
    process = mjp.Diffusion(lambda t, x: x - x**3, lambda t, x: 0.7 + 0.1 * jnp.sin(x))
    likelihood, density = {
        "nearly exact": (lambda x: dist.Normal(x[0], 1e-3), lambda m, s: norm.pdf(0.6, m, np.hypot(s, 1e-3))),
        "exact": (mjp.Exactly(), lambda m, s: norm.pdf(0.6, m, s)),
        "tilted": (lambda x: dist.Laplace(x[0], 0.5), None),
    }[observation]
    grid = np.linspace(-4.0, 4.0, 2001)
    mean, sd = grid + (grid - grid**3) * dt, (0.7 + 0.1 * np.sin(grid)) * np.sqrt(dt)
    kernel = norm.pdf(grid[None], mean[:, None], sd[:, None]) * (grid[1] - grid[0])
    g = density(mean, sd) if density else kernel @ laplace.pdf(0.6, grid, 0.5)
    for _ in range(steps - 1):
        g = kernel @ g
    truth = float(np.log(np.interp(-0.5, grid, g)))
    graph = mjp.chain(process, [0.0, 1.0], initial=jnp.array([-0.5]), steps=steps)
    value = np.array([[np.nan], [0.6]]) if observation == "exact" else np.array([np.nan, 0.6])
    graph.observe_each(likelihood, value)
    found = mjp.evidence(graph, jax.random.key(0), 4000, form=form, **options)
    assert 0 < float(found.standard_error) < 0.05
    assert abs(float(found.log_evidence) - truth) < 4 * float(found.standard_error) + 2e-3


def test_the_form_is_an_option_of_models():
    y = values("elliptic", 1e-3)
    log_density_of_data, _ = chain_truth("elliptic").given(LOOK, 1e-3, y)

    def model(form):
        mjp.sample("x", chain("elliptic", 1e-3, y), form=form)

    for form in NEW:
        found, _ = log_density(numpyro.handlers.seed(model, 0), (form,), {}, {})
        np.testing.assert_allclose(found, log_density_of_data, rtol=1e-8)


def test_malformed_forms():
    graph = chain("elliptic", 0.3, values("elliptic", 0.3))
    with pytest.raises(
        ValueError, match=r"form must be one of \['canonical', 'square root', 'stacked'\], got"
    ):
        mjp.condition(graph, form="cholesky")
    jumps = mjp.JumpDiffusion(lambda t, x: -x, 0.5, rate=1.0, jump_mean=0.0, jump_deviation=1.0)
    graph = mjp.chain(jumps, [0.0, 1.0], initial=jnp.zeros(1), steps=2)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.1), np.array([np.nan, 0.5]))
    with pytest.raises(
        ValueError, match=r"form: steps of JumpDiffusion are mixtures, which take 'canonical'"
    ):
        mjp.condition(graph, form="stacked")
