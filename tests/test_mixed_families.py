"""Graphs that mix families: evidence and draws against enumeration of states and dense normal laws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import NUTS, Gibbs
from scipy.linalg import expm
from scipy.signal import fftconvolve
from scipy.special import logsumexp
from scipy.stats import gamma, kstest, multivariate_normal, norm, poisson

import mjp
from mjp.fitting.pilot import filters_suffice
from mjp.inference import CrankNicolson, MixedParticleGibbs
from mjp.inference.mixed_particles import particle_sweep
from mjp.numpyro_bridge import unflatten

pytestmark = pytest.mark.usefixtures("quick_compilation")

LEVEL = np.array([-1.0, 0.5, 2.0])  # 1.5 s - 1
GENERATOR = np.array([[-0.7, 0.5, 0.2], [0.3, -0.6, 0.3], [0.1, 0.8, -0.9]])
PARTICLES = 20_000


def agrees(graph, truth, particles=PARTICLES, least=0.1, **options):
    """The estimate of the evidence is within four standard errors, and most particles count."""
    found = mjp.evidence(graph, jax.random.key(1), particles, **options)
    assert found.ess > least * particles
    np.testing.assert_allclose(found.log_evidence, truth, atol=4 * float(found.standard_error) + 1e-9)


def switching_chain(n=5, push=0.3):
    """A hidden jump process of three states beside a vector that it drives; both show in one observation."""
    rng = np.random.default_rng(4)
    seen = rng.normal(size=n + 1)
    regime = mjp.MarkovJump(GENERATOR)
    move = mjp.ConditionalGaussian(lambda x, s: 0.8 * x + push * (1.5 * s - 1.0), 0.2)
    look = lambda x, s: dist.Normal(x[0] + (1.5 * s - 1.0), 0.5)
    graph = (
        mjp.Graph().root("s0", dist.Categorical(jnp.array([0.5, 0.3, 0.2]))).root("x0", dist.Normal(0.3, 1.0))
    )
    for t in range(n):
        graph.edge(f"s{t}", f"s{t + 1}", regime, duration=0.6)
        graph.edge((f"x{t}", f"s{t + 1}"), f"x{t + 1}", move)
    for t in range(n + 1):
        graph.observe((f"x{t}", f"s{t}"), look, seen[t])
    return graph, seen


def switching_truth(seen, push=0.3):
    """Log-evidence, and posterior means of x_t and of the probability that s_t is 2."""
    n, kernel, level = len(seen) - 1, expm(0.6 * GENERATOR), LEVEL
    logs, means, states = [], [], []
    for path in itertools.product(range(3), repeat=n + 1):
        law = np.log([0.5, 0.3, 0.2][path[0]]) + sum(
            np.log(kernel[a, b]) for a, b in itertools.pairwise(path)
        )
        mean, covariance = np.zeros(n + 1), np.zeros((n + 1, n + 1))
        mean[0], covariance[0, 0] = 0.3, 1.0
        for t in range(n):
            mean[t + 1] = 0.8 * mean[t] + push * level[path[t + 1]]
            covariance[t + 1, : t + 1] = covariance[: t + 1, t + 1] = 0.8 * covariance[t, : t + 1]
            covariance[t + 1, t + 1] = 0.64 * covariance[t, t] + 0.2
        total = covariance + 0.25 * np.eye(n + 1)
        residual = seen - mean - level[list(path)]
        logs.append(law + multivariate_normal.logpdf(residual, np.zeros(n + 1), total))
        means.append(mean + covariance @ np.linalg.solve(total, residual))
        states.append(np.asarray(path) == 2)
    weights = np.exp(logs - logsumexp(logs))
    return logsumexp(logs), weights @ np.asarray(means), weights @ np.asarray(states)


def test_a_jump_process_that_drives_a_vector_and_one_observation_of_both():
    graph, seen = switching_chain()
    truth, means, wild = switching_truth(seen)
    agrees(graph, truth)
    guided = mjp.condition(graph)
    assert not guided.exact
    assert not guided.smooth
    keys = jax.random.split(jax.random.key(2), PARTICLES)
    paths, log_weights = jax.jit(jax.vmap(guided.sample))(keys)
    shares = np.exp(log_weights - logsumexp(log_weights))
    error = 5 * np.sqrt(np.sum(shares**2))
    for t in range(len(seen)):
        x, s = np.asarray(paths[f"x{t}"])[:, 0], np.asarray(paths[f"s{t}"])
        np.testing.assert_allclose(shares @ x, means[t], atol=error)
        np.testing.assert_allclose(shares @ (s == 2), wild[t], atol=error)


def test_particles_of_a_graph_that_mixes_families():
    """The estimate of 10 particles is unbiased, within 4.5 errors of 2000 runs."""
    graph, seen = switching_chain()
    truth, _, _ = switching_truth(seen)
    guided = mjp.condition(graph)
    keys = jax.random.split(jax.random.key(0), 2000)
    estimate = lambda key: particle_sweep(guided, key, 10).log_evidence
    ratio = np.exp(np.asarray(jax.jit(lambda k: lax.map(estimate, k, batch_size=200))(keys)) - truth)
    error = ratio.std() / np.sqrt(len(ratio))
    assert 1e-5 < error < 0.02
    assert abs(ratio.mean() - 1) < 4.5 * error
    filtered = mjp.smc(graph, jax.random.key(3), 500)
    assert abs(filtered.log_evidence - truth) < 0.3
    assert filtered.ess[-1] > 50
    with pytest.raises(ValueError, match="guided must be True for a graph that mixes families"):
        mjp.smc(graph, jax.random.key(0), 10, guided=False)
    with pytest.raises(ValueError, match="particles must be at least 2"):
        MixedParticleGibbs(lambda: None, particles=1)
    with pytest.raises(ValueError, match="model has no graph that mixes families"):
        MixedParticleGibbs(lambda: None).init(jax.random.key(0), 0, None, (), {})


@pytest.mark.slow
def test_sweeps_that_keep_innovations_have_the_posterior_law():
    """Means of all states of 4000 sweeps of 10 particles, within 4.5 errors."""
    graph, seen = switching_chain()
    _, means, wild = switching_truth(seen)
    guided = mjp.condition(graph)

    def sweep(z, key):
        z = particle_sweep(guided, key, 10, z).z
        path, _ = guided.push(z)
        n = len(seen)
        return z, (
            jnp.stack([path[f"x{t}"][0] for t in range(n)]),
            jnp.stack([path[f"s{t}"] for t in range(n)]),
        )

    start = particle_sweep(guided, jax.random.key(1), 50).z
    x, s = jax.jit(lambda z: lax.scan(sweep, z, jax.random.split(jax.random.key(2), 4000))[1])(start)
    x = np.asarray(x)
    for found, expected in ((x, means), (np.asarray(s) == 2, wild)):
        for column, value in zip(found.T, expected, strict=True):
            own = column.astype(float)
            if found is not x and value < 0.03:  # visited in few long bursts, of which the error says little
                assert own.mean() < 0.06
                continue
            deviation = own.std() / np.sqrt(effective_sample_size(own.reshape(4, -1)))
            assert abs(own.mean() - value) < 4.5 * deviation < 0.1


def test_particle_gibbs_is_a_kernel_of_models():
    graph, seen = switching_chain(2)
    _, means, _ = switching_truth(seen)
    kernel = MixedParticleGibbs(lambda: mjp.sample("path", switching_chain(2)[0]), particles=20)
    start = jax.jit(lambda key: kernel.init(key, 0, None, (), {}))(jax.random.key(0))
    guided = mjp.condition(graph)

    def step(state, _):
        state = kernel.sample(state, (), {})
        path, _ = guided.push(unflatten(state.z["path.innovations"][None], guided.innovations))
        return state, (jnp.stack([path[f"x{t}"][0] for t in range(3)]), state.moved)

    x, moved = jax.jit(lambda state: lax.scan(step, state, length=2000)[1])(start)
    assert float(moved.mean()) > 0.5
    for column, value in zip(np.asarray(x).T, means, strict=True):
        error = column.std() / np.sqrt(effective_sample_size(column.reshape(4, -1)))
        assert abs(column.mean() - value) < 4.5 * error < 0.15


def test_every_step_of_the_chain_is_compiled_once():
    """The length of the program does not grow with the number of edges."""

    def size(n):
        guided = mjp.condition(switching_chain(n)[0])
        program = jax.make_jaxpr(lambda key: guided.sample(key)[1])(jax.random.key(0))
        return len(str(program))

    assert size(40) < 1.3 * size(10)


def two_vectors(seen_exactly):
    """Two vectors of different sizes with one child, and its truth as a dense normal law."""
    a, b = np.array([[0.5, -0.3], [0.2, 1.0]]), np.array([[1.0], [-0.7]])
    noise = np.array([[0.3, 0.1], [0.1, 0.2]])
    first, second = np.array([[1.0, 0.4], [0.4, 0.8]]), np.array([[0.6]])
    child = mjp.ConditionalGaussian(lambda x, u: a @ x + b @ u + 0.1, noise)
    graph = mjp.Graph().root("x", dist.MultivariateNormal(jnp.array([0.2, -0.1]), jnp.asarray(first)))
    graph.root("u", dist.Normal(0.5, np.sqrt(0.6)).expand([1]).to_event(1)).edge(("x", "u"), "z", child)
    mean = a @ [0.2, -0.1] + b @ [0.5] + 0.1
    covariance = a @ first @ a.T + b @ second @ b.T + noise
    value = np.array([1.1, 0.4])
    if seen_exactly:
        graph.observe("z", mjp.Exactly(), value)
    else:
        graph.observe("z", mjp.LinearGaussianObservation(np.eye(2), 0.1 * np.eye(2)), value)
        covariance = covariance + 0.1 * np.eye(2)
    return graph, multivariate_normal.logpdf(value, mean, covariance)


@pytest.mark.parametrize("seen_exactly", [False, True])
def test_two_vectors_with_a_common_child(seen_exactly):
    graph, truth = two_vectors(seen_exactly)
    agrees(graph, truth, least=0.5)
    path, _ = mjp.condition(graph).sample(jax.random.key(0))
    if seen_exactly:
        np.testing.assert_array_equal(path["z"], [1.1, 0.4])


def test_a_state_whose_odds_depend_on_a_vector():
    """A temperature sets off an alarm, and is measured; quadrature over the temperature."""
    logits = lambda x, weekend: jnp.array([0.0, 2.0 * (x[0] - 1.0) - 0.5 * weekend])
    graph = mjp.Graph().root("temperature", dist.Normal(0.0, 1.0)).root("weekend", dist.Bernoulli(2 / 7))
    graph.edge(("temperature", "weekend"), "alarm", mjp.ConditionalCategorical(logits, ["off", "on"]))
    graph.observe("alarm", mjp.Exactly(), "on").observe("temperature", lambda x: dist.Normal(x, 0.8), 0.7)
    x, w = np.polynomial.hermite_e.hermegauss(80)
    chance = sum(p / (1 + np.exp(-2 * (x - 1) + 0.5 * s)) for s, p in ((0, 5 / 7), (1, 2 / 7)))
    agrees(graph, np.log(w @ (chance * norm.pdf(0.7, x, 0.8)) / w.sum()))
    assert mjp.condition(graph).sample(jax.random.key(3))[0].label("alarm") == "on"


def test_a_count_that_depends_on_a_state_and_a_vector():
    rate = lambda x, s: dist.Poisson(jnp.exp(x[0] + (1.5 * s - 1.0)))
    graph = (
        mjp.Graph().root("x", dist.Normal(0.5, 0.7)).root("s", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
    )
    graph.edge("x", "later", mjp.ConditionalGaussian(lambda x: jnp.sin(x), 0.3))
    graph.observe(("x", "s"), rate, 5).observe("later", lambda x: dist.Normal(x, 0.4), 1.0)
    x, w = np.polynomial.hermite_e.hermegauss(80)
    x = 0.5 + 0.7 * x
    count = sum(p * poisson.pmf(5, np.exp(x + float(l))) for p, l in zip((0.2, 0.5, 0.3), LEVEL, strict=True))
    agrees(graph, np.log(w @ (count * norm.pdf(1.0, np.sin(x), np.sqrt(0.3 + 0.16))) / w.sum()))


def test_a_diffusion_whose_observation_depends_on_a_state():
    """Euler steps in a double well, by quadrature of the discretised path."""
    well = mjp.Diffusion(lambda t, x: x - x**3, 0.7, dim=1)
    graph = mjp.Graph().root("x0", jnp.array([0.2])).root("s", dist.Categorical(jnp.array([0.6, 0.3, 0.1])))
    graph.edge("x0", "x1", well, duration=1.2, steps=6)
    graph.observe(("x1", "s"), lambda x, s: dist.Normal(x + (1.5 * s - 1.0), 0.4), 1.3)
    grid = np.linspace(-4, 4, 1601)
    step = norm.pdf(grid[None], (grid + 0.2 * (grid - grid**3))[:, None], 0.7 * np.sqrt(0.2)) * 0.005
    law = norm.pdf(grid, 0.2 + 0.2 * (0.2 - 0.008), 0.7 * np.sqrt(0.2)) * 0.005
    for _ in range(5):
        law = law @ step
    seen = sum(p * norm.pdf(1.3, grid + float(l), 0.4) for p, l in zip((0.6, 0.3, 0.1), LEVEL, strict=True))
    agrees(graph, np.log(law @ seen))
    path, _ = mjp.condition(graph).sample(jax.random.key(1))
    assert path.edge("x0", "x1").values.shape == (7, 1)


def test_log_likelihoods_of_a_path_are_those_of_its_observations():
    graph, seen = switching_chain(2)
    guided = mjp.condition(graph, auxiliary="prior mean")
    path, _ = guided.sample(jax.random.key(0))
    found = dict(zip(graph.names, np.asarray(guided.log_likelihoods(path)), strict=True))
    for t, value in enumerate(seen):
        mean = float(path[f"x{t}"][0]) + LEVEL[int(path[f"s{t}"])]
        np.testing.assert_allclose(found[f"s{t}"], norm.logpdf(value, mean, 0.5), rtol=1e-6)
        assert found[f"x{t}"] == 0.0


def test_families_side_by_side_are_exact():
    """Law 1: where no factor is projected and nothing is linearised, the weight is exactly zero."""
    walk = mjp.LinearGaussian(np.eye(1), np.zeros(1), 0.5 * np.eye(1))
    jump = mjp.MarkovJump(GENERATOR)
    whole = mjp.Graph()
    alone = [mjp.Graph(), mjp.Graph()]
    for graphs in ((whole, whole), alone):
        graphs[0].root("x0", dist.Normal(0.0, 1.0)).edge("x0", "x1", walk).observe(
            "x1", lambda x: dist.Normal(x, 0.3), 0.8
        )
        graphs[1].root("s0", dist.Categorical(jnp.array([0.5, 0.3, 0.2]))).edge(
            "s0", "s1", jump, duration=2.0
        )
        graphs[1].observe("s1", lambda s: dist.Normal((1.5 * s - 1.0), 0.5), 1.5)
    guided = mjp.condition(whole)
    parts = [float(mjp.condition(graph).log_evidence) for graph in alone]
    np.testing.assert_allclose(guided.log_evidence, sum(parts), rtol=1e-9)
    assert guided.exact
    path, log_weight = guided.sample(jax.random.key(0))
    assert log_weight == 0.0
    assert path.edge("s0", "s1").at(0.0) == path["s0"]


def test_roots_have_the_labels_that_their_edges_ask_for():
    machine = mjp.MarkovJump({("runs", "fails"): 0.2, ("fails", "runs"): 0.5})
    graph = (
        mjp.Graph().root("before", "fails").root("x", dist.Normal(0.0, 1.0)).edge("before", "after", machine)
    )
    graph.edge(("x", "after"), "y", mjp.ConditionalGaussian(lambda x, s: x + s, 1.0))
    path, _ = mjp.condition(graph).sample(jax.random.key(0))
    assert path.label("before") == "fails"
    assert path.label("after") in ("runs", "fails")


@pytest.mark.slow
def test_simulated_observations_have_the_law_of_the_model():
    graph, _ = switching_chain(1)
    draw = jax.vmap(lambda key: mjp.simulate(graph, key).observations)(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert len(draw) == 2
    first = np.asarray(draw[0]).ravel()
    mean = 0.3 + LEVEL @ [0.5, 0.3, 0.2]
    np.testing.assert_allclose(first.mean(), mean, atol=4 * first.std() / np.sqrt(4000))


def pushed():
    push = numpyro.sample("push", dist.Normal(0.0, 1.0))
    mjp.sample("path", switching_chain(2, push)[0])


def by_innovations():
    """pCN on innovations with which states jump, NUTS on the parameter."""
    sites = ["path.innovations"]
    return Gibbs([(CrankNicolson(pushed, sites, blocks=2), sites), (NUTS(pushed), None)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "name"), [("auto", "pseudo-marginal moves, 200 particles"), (by_innovations, "Gibbs")]
)
def test_a_fit_draws_from_the_posterior(engine, name, tmp_path):
    """Against quadrature over the parameter."""
    seen = switching_chain(2)[1]
    at, w = np.polynomial.hermite_e.hermegauss(40)
    heights = np.asarray([switching_truth(seen, push)[0] for push in at])
    shares = w * np.exp(heights - heights.max())
    mean = shares @ at / shares.sum()
    variance = shares @ (at - mean) ** 2 / shares.sum()
    own = engine if engine == "auto" else engine()
    fit = mjp.fit(pushed, engine=own, draws=1500, warmup=300, chains=2, progress=False)
    assert fit.engine == name
    draws = fit.samples["push"]
    error = np.sqrt(variance / effective_sample_size(draws))
    np.testing.assert_allclose(draws.mean(), mean, atol=4 * error)
    np.testing.assert_allclose(draws.var(), variance, rtol=0.25)
    paths = fit.paths("path")
    assert paths.sel(path_node="s1").isel(path_coordinate=0).isin([0, 1, 2]).all()
    assert fit.data["log_likelihood"]["path"].sizes["path_node"] == 6
    page = fit.report(tmp_path / "report.html").read_text()
    assert ("whose particles follow the guide, estimates the evidence" in page) == (engine == "auto")
    assert "buffer_overflow" not in page
    with pytest.raises(ValueError, match="NUTS cannot sample"):
        mjp.fit(pushed, engine="nuts", progress=False)


def test_a_pilot_run_chooses_moves_of_parameters_and_paths_together():
    found = filters_suffice(pushed, (), {})
    assert found is not None
    assert found.particles == 200


def test_gradients_of_the_evidence_are_those_of_finite_differences():
    def log_evidence(level):
        graph = (
            mjp.Graph().root("x", dist.Normal(level, 1.0)).root("s", dist.Categorical(jnp.array([0.4, 0.6])))
        )
        move = mjp.ConditionalGaussian(lambda x, s: level * x + s, 0.2)
        graph.edge(("x", "s"), "y", move).observe("y", lambda y: dist.Normal(y, 0.5), 1.2)
        return mjp.condition(graph).log_evidence

    found = jax.grad(log_evidence)(0.7)
    np.testing.assert_allclose(found, (log_evidence(0.7 + 1e-5) - log_evidence(0.7 - 1e-5)) / 2e-5, rtol=1e-4)


def test_one_precision_is_enough():
    seen = switching_chain(3)[1]
    with jax.enable_x64(False):
        found = mjp.evidence(switching_chain(3)[0], jax.random.key(1), 2000)
        assert found.log_evidence.dtype == jnp.float32
    np.testing.assert_allclose(
        found.log_evidence, switching_truth(seen)[0], atol=4 * float(found.standard_error)
    )


BAD = {
    "a parent of another family": (
        lambda g: g.edge("seen", "y", mjp.LinearGaussian(np.eye(2), np.zeros(2), np.eye(2))),
        "parent: node 'seen' is a vector of 1, where LinearGaussian needs a vector of 2",
    ),
    "a mean of another shape": (
        lambda g: g.edge(("x", "s"), "y", mjp.ConditionalGaussian(lambda x, s: jnp.ones(3), np.eye(2))),
        "the edge into node 'y': mean must return shape",
    ),
    "logits of another shape": (
        lambda g: g.edge("x", "y", mjp.ConditionalCategorical(lambda x: x, 3)),
        "the edge into node 'y': logits must return shape",
    ),
    "a value of another shape": (
        lambda g: g.observe(("x", "s"), lambda x, s: dist.Normal(x, 1.0), [1.0, 2.0]),
        "value of node 'x' and node 's' must have shape",
    ),
    "a value that is not finite": (
        lambda g: g.observe(("x", "s"), lambda x, s: dist.Normal(x, 1.0), [np.inf]),
        "value of node 'x' and node 's' must be finite",
    ),
    "an exact vector at the end of a step of another process": (
        lambda g: (
            g.edge("x", "y", mjp.LinearGaussian(np.eye(1), np.zeros(1), np.eye(1)))
            .edge(("y", "s"), "z", mjp.ConditionalGaussian(lambda y, s: y, 1.0))
            .observe("y", mjp.Exactly(), [1.0])
        ),
        "node 'y' is a vector that no mjp.ConditionalGaussian leads to",
    ),
    "a law that is not one of vectors": (
        lambda g: g.root("e", dist.Exponential(1.0)).edge(
            ("e", "s"), "y", mjp.ConditionalGaussian(lambda e, s: e, 1.0)
        ),
        "initial must be a value, or a Normal",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_when_it_is_conditioned(case):
    declare, message = BAD[case]
    graph = mjp.Graph().root("x", jnp.zeros(1)).root("s", dist.Categorical(jnp.array([0.5, 0.5])))
    graph.edge(("x", "s"), "seen", mjp.ConditionalGaussian(lambda x, s: x[:1] + s, 1.0))
    with pytest.raises(ValueError, match=message):
        mjp.condition(declare(graph))


@pytest.mark.parametrize(
    ("declare", "error", "message"),
    [
        (
            lambda g: g.observe(("x", "q"), lambda x, q: dist.Normal(x, 1.0), 1.0),
            ValueError,
            "unknown node 'q'",
        ),
        (lambda g: g.observe(("x", "x"), lambda x, y: dist.Normal(x, 1.0), 1.0), ValueError, "named twice"),
        (lambda g: g.observe(("x", "s"), mjp.Exactly(), 1.0), TypeError, "must be a function of 2 states"),
        (lambda g: mjp.ConditionalGaussian(1.0, 1.0), TypeError, "mean must be a function"),
        (lambda g: mjp.ConditionalGaussian(lambda x: x, lambda x: 1.0), TypeError, "dim must be given"),
        (lambda g: mjp.ConditionalGaussian(lambda x: x, -1.0), ValueError, "covariance must be"),
        (lambda g: mjp.ConditionalGaussian(lambda x: x, 1.0, dim=2), ValueError, "dim must be that of"),
        (lambda g: mjp.ConditionalCategorical(jnp.ones(2), 2), TypeError, "logits must be a function"),
        (lambda g: mjp.ConditionalCategorical(lambda x: x, ["a", "a"]), ValueError, "must be distinct"),
        (
            lambda g: (
                g.root("n0", 0.0)
                .edge(
                    "n0",
                    "n",
                    mjp.SwitchingDiffusion(dict.fromkeys("ab", (lambda t, x: -x, 1.0)), np.eye(2)[::-1]),
                )
                .edge("n", "m", mjp.ConditionalGaussian(lambda n: n, 1.0))
            ),
            TypeError,
            "is a state of SwitchingDiffusion, where ConditionalGaussian takes vectors, counts, agents",
        ),
    ],
)
def test_what_does_not_fit_is_refused_at_declaration(declare, error, message):
    graph = mjp.Graph().root("x", dist.Normal(0.0, 1.0)).root("s", dist.Categorical(jnp.array([0.5, 0.5])))
    with pytest.raises(error, match=message):
        declare(graph)


# Gamma processes beside other families


WEAR, SCALE, NOISE = 1.6, 2.0, 0.25  # shape per unit of time, rate, error of a gauge
CHECKS = np.array([0.0, 1.0, 2.5, 3.2])
GAUGE = np.array([np.nan, 1.1, np.nan, 2.4])
ALARM = [None, "quiet", "ringing", "ringing"]


def worn(steps=None):
    """A part that wears by a Gamma process, with a gauge; the more, the likelier rings an alarm."""
    ring = mjp.ConditionalCategorical(
        lambda x: jnp.stack([0.0 * x[0], 2.0 * x[0] - 3.0]), states=("quiet", "ringing")
    )
    graph = mjp.Graph().root("x0", jnp.zeros(1))
    for t in range(1, 4):
        graph.edge(
            f"x{t - 1}",
            f"x{t}",
            mjp.GammaProcess(WEAR, SCALE),
            duration=float(np.diff(CHECKS)[t - 1]),
            steps=steps,
        )
        graph.edge((f"x{t}",), f"a{t}", ring)
        graph.observe(f"a{t}", mjp.Exactly(), ALARM[t])
        if np.isfinite(GAUGE[t]):
            graph.observe(f"x{t}", lambda x: dist.Normal(x[0], NOISE), GAUGE[t])
    return graph


def worn_truth(width=0.002, top=7.0):
    """Log-evidence, and posterior mean of the wear at the second check, by sums over a fine grid."""
    cells = width * np.arange(int(top / width))
    forward = moment = np.eye(1, len(cells))[0]
    for t, length in enumerate(np.diff(CHECKS), start=1):
        below = lambda x, a=WEAR * length: gamma.cdf(x, a, scale=1 / SCALE)
        step = below(cells + width) - below(cells)
        at = cells + 0.5 * t * width  # every increment is in the middle of its cell
        odds = (2 * at - 3) * (1 if ALARM[t] == "ringing" else -1)
        likelihood = 1 / (1 + np.exp(-odds))
        if np.isfinite(GAUGE[t]):
            likelihood = likelihood * norm.pdf(GAUGE[t], at, NOISE)
        move = lambda law, step=step: fftconvolve(law, step)[: len(cells)]
        forward, moment = move(forward) * likelihood, move(moment) * likelihood
        if t == 2:
            moment = forward * at
    return np.log(forward.sum()), moment.sum() / forward.sum()


@pytest.mark.parametrize("steps", [None, pytest.param(3, marks=pytest.mark.slow)])
def test_a_gamma_process_beside_states(steps):
    truth, mean = worn_truth()
    graph = worn(steps)
    agrees(graph, truth, particles=8000, least=0.3)
    guided = mjp.condition(graph)
    paths, log_weights = jax.jit(jax.vmap(guided.sample))(jax.random.split(jax.random.key(2), 8000))
    weight = np.exp(log_weights - logsumexp(log_weights))
    wear = np.asarray(paths.vectors[1].values)[:, graph.ids["x2"], 0]
    error = np.sqrt(np.sum(weight**2 * (wear - mean) ** 2))
    assert abs(weight @ wear - mean) < 4 * error
    assert np.all(
        np.diff(np.asarray(paths.vectors[1].values)[:, [graph.ids[f"x{t}"] for t in range(4)], 0]) > 0
    )
    if steps:
        before = np.asarray(paths.vectors[1].paths.before[0])[..., 0]
        assert before.shape[2] == 3
        assert np.all(np.diff(before, axis=2) > 0)


def test_a_diffusion_from_where_a_gamma_process_ends():
    """Its evidence is one integral; at a shape below one the density of the increment has a pole."""
    graph = mjp.Graph().root("a", 0.0).edge("a", "b", mjp.GammaProcess(0.6, 1.5), duration=1.0)
    graph.edge("b", "c", mjp.LinearDiffusion(0.0, dispersion=0.5), duration=1.0)
    graph.observe("c", lambda x: dist.Normal(x[0], 0.3), 0.9)
    spread = np.sqrt(0.5**2 + 0.3**2)
    edges = np.concatenate([[0.0], np.geomspace(1e-9, 20.0, 20_000)])
    mass = np.diff(gamma.cdf(edges, 0.6, scale=1 / 1.5))
    truth = np.log(mass @ norm.pdf(0.9, 0.5 * (edges[1:] + edges[:-1]), spread))
    agrees(graph, truth, particles=4000, least=0.5)


def test_a_simulated_gamma_process_has_its_law():
    draws = jax.jit(jax.vmap(lambda key: mjp.simulate(worn(), key)))(
        jax.random.split(jax.random.key(3), 4000)
    )
    wear = np.asarray(draws.vectors[1].values)[:, worn().ids["x3"], 0]
    assert kstest(wear, gamma(WEAR * CHECKS[-1], scale=1 / SCALE).cdf).pvalue > 1e-3


def test_gamma_processes_that_cannot_be_mixed():
    graph = worn()
    graph.observe("x2", mjp.Exactly(), np.array([1.5]))
    with pytest.raises(ValueError, match=r"that no mjp.ConditionalGaussian leads to"):
        mjp.condition(graph)
    varying = mjp.GammaProcess(WEAR, lambda t: 1.0 + t)
    other = mjp.Graph().root("x", jnp.zeros(1)).edge("x", "y", varying, duration=1.0, steps=4)
    other.edge(("y",), "s", mjp.ConditionalCategorical(lambda y: jnp.append(y, 0.0), states=("a", "b")))
    with pytest.raises(ValueError, match=r"the rate of a GammaProcess is a number, or edges have one step"):
        mjp.condition(other)


def progress(rate, levels):
    """A process that only goes on, beside a vector; most entries of its transition matrices are zero."""
    disease = mjp.MarkovJump({("well", "ill"): rate, ("ill", "dead"): 0.4}, states=["well", "ill", "dead"])
    move = mjp.ConditionalGaussian(lambda x: 0.8 * x, 0.1)
    graph = mjp.Graph().root("s0", "well").root("x0", dist.Normal(0.0, 1.0))
    for t, level in enumerate(levels):
        graph.edge(f"s{t}", f"s{t + 1}", disease, duration=1.0)
        graph.edge(f"x{t}", f"x{t + 1}", move)
        graph.observe((f"s{t + 1}", f"x{t + 1}"), lambda s, x: dist.Normal(s + x[0], 0.3), level)
    return graph


@pytest.mark.parametrize("what", [pytest.param("evidence", marks=pytest.mark.slow), "weight"])
def test_gradients_where_states_cannot_be_reached(what):
    def value(rate):
        guided = mjp.condition(progress(rate, [1.3, 2.1]), max_jumps=8)
        z = {name: 0.3 * jnp.ones(shape) for name, shape in guided.innovations.items()}
        return guided.log_evidence if what == "evidence" else guided.push(z)[1]

    value = jax.jit(value)
    slope = (value(0.5 + 1e-5) - value(0.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(value)(0.5), slope, rtol=1e-4)


def household(infection=0.3, exact=True):
    """An epidemic of four, whose infected raise a vector, and one observation of both."""
    network = mjp.ReactionNetwork([("S + I -> 2 I", infection), ("I -> R", 0.4)])
    graph = mjp.Graph().root("e0", {"S": 3, "I": 1, "R": 0}).root("x0", dist.Normal(0.0, 1.0))
    graph.edge("e0", "e1", network, duration=1.0).edge("e1", "e2", network, duration=1.0)
    graph.edge(("e1", "x0"), "x1", mjp.ConditionalGaussian(lambda e, x: x + 0.3 * e["I"], 1.0))
    graph.observe(("e1", "x1"), lambda e, x: dist.Normal(e["I"] + x[0], 1.0), 2.0)
    graph.observe("e2", lambda e: dist.Normal(e["R"], 0.5), 1.2)
    if exact:
        graph.observe("e2", mjp.Exactly(), np.array([1.0, np.nan, np.nan]))
    return graph, network


def household_truth(network, exact):
    found = network.reachable({"S": 3, "I": 1, "R": 0})
    rates = np.asarray(network.generator(found))
    kernel = expm(rates - np.diag(rates.sum(axis=1)))
    infected, removed = found.states[:, 1], found.states[:, 2]
    middle = kernel[0] * norm.pdf(2.0, 1.3 * infected, np.sqrt(3.0))
    last = norm.pdf(1.2, removed, 0.5) * (found.states[:, 0] == 1 if exact else 1.0)
    return np.log(middle @ kernel @ last)


@pytest.mark.parametrize("exact", [False, True])
def test_a_network_of_few_counts_beside_a_vector(exact):
    graph, network = household(exact=exact)
    agrees(graph, household_truth(network, exact))


def test_counts_of_networks_that_mix_are_drawn():
    graph, network = household()
    path = mjp.simulate(graph, jax.random.key(0))
    counts = path.label("e1")
    assert sum(counts) == 4
    assert path.edge("e0", "e1").at(0.0) == 0
    draws, log_weights = jax.vmap(mjp.condition(graph).sample)(jax.random.split(jax.random.key(1), 20_000))
    weights = np.exp(log_weights - logsumexp(log_weights))
    states = network.reachable({"S": 3, "I": 1, "R": 0}).states
    assert np.all(states[draws["e2"], 0] == 1)
    rates = np.asarray(network.generator(network.reachable({"S": 3, "I": 1, "R": 0})))
    kernel = expm(rates - np.diag(rates.sum(axis=1)))
    last = norm.pdf(1.2, states[:, 2], 0.5) * (states[:, 0] == 1)
    law = kernel[0] * norm.pdf(2.0, 1.3 * states[:, 1], np.sqrt(3.0)) * (kernel @ last)
    infected = weights @ states[draws["e1"], 1]
    np.testing.assert_allclose(infected, states[:, 1] @ law / law.sum(), atol=0.03)


def test_networks_with_other_rates_share_their_states():
    """An intervention: the second week another network, whose states are those of the first."""
    first = mjp.ReactionNetwork([("S + I -> 2 I", 0.5), ("I -> R", 0.4)])
    then = mjp.ReactionNetwork([("S + I -> 2 I", 0.1), ("I -> R", 0.4)])
    graph = mjp.Graph().root("e0", {"S": 3, "I": 1, "R": 0}).root("x0", dist.Normal(0.0, 1.0))
    graph.edge("e0", "e1", first, duration=1.0).edge("e1", "e2", then, duration=1.0)
    graph.edge("x0", "x1", mjp.ConditionalGaussian(lambda x: x, 1.0))
    graph.observe(("e2", "x1"), lambda e, x: dist.Normal(e["R"] + x[0], 0.5), 1.2)
    found = first.reachable({"S": 3, "I": 1, "R": 0})
    law = np.eye(len(found.states))[0]
    for network in (first, then):
        rates = np.asarray(network.generator(found))
        law = law @ expm(rates - np.diag(rates.sum(axis=1)))
    agrees(graph, np.log(law @ norm.pdf(1.2, found.states[:, 2], np.sqrt(2.25))))


def mixed_with(network, first, *seen):
    graph = mjp.Graph().root("e0", first).root("x0", dist.Normal(0.0, 1.0))
    graph.edge("e0", "e1", network, duration=1.0)
    graph.edge(("e0", "x0"), "x1", mjp.ConditionalGaussian(lambda e, x: x, 1.0))
    return graph.observe("e1", *seen) if seen else graph


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([("0 -> A", 1.0)], {"A": 0}), "more than 2000 states can be reached from node 'e0'"),
        (
            ([("A -> 0", 1.0)], dist.Poisson(jnp.ones(1)).to_event(1)),
            "the first counts at node 'e0' have a law",
        ),
        (
            ([("A -> 0", 1.0)], {"A": 2}, mjp.Exactly(), np.array([3.0])),
            r"counts \[3.0\] at node 'e1' cannot",
        ),
        (([("A -> 0", 1.0)], {"A": 2}, mjp.Exactly(), np.zeros(2)), "holds counts of A, got shape"),
    ],
)
def test_networks_that_cannot_mix_are_refused(arguments, message):
    reactions, *rest = arguments
    with pytest.raises(ValueError, match=message):
        mjp.condition(mixed_with(mjp.ReactionNetwork(reactions), *rest))
