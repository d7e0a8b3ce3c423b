"""Linear-Gaussian graphs against the joint normal law of all nodes, written down without any recursion."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas
import pytest
from scipy.linalg import expm
from scipy.stats import multivariate_normal

import mjp
from mjp.processes.linear_transition import linear_transition

RNG = np.random.default_rng(0)
A = np.array([[0.9, 0.2], [-0.1, 0.8]])
SHIFT = np.array([0.1, -0.2])
Q = np.array([[0.3, 0.1], [0.1, 0.2]])
MEAN, SPREAD = np.array([1.0, 0.0]), np.array([[0.5, 0.1], [0.1, 0.4]])
LOOK, NOISE = np.array([[1.0, 0.5]]), np.array([[0.4]])


class Joint:
    """The joint normal law of all states of a graph, built edge by edge."""

    def __init__(self):
        self.mean, self.covariance, self.position = np.zeros(0), np.zeros((0, 0)), {}

    def add(self, node, parent=None, matrix=None, offset=None, covariance=None):
        d, n = len(offset), len(self.mean)
        cross = np.zeros((n, d)) if parent is None else self.covariance[:, self.slice(parent)] @ matrix.T
        own = covariance if parent is None else matrix @ cross[self.slice(parent)] + covariance
        mean = offset if parent is None else matrix @ self.mean[self.slice(parent)] + offset
        self.covariance = np.block([[self.covariance, cross], [cross.T, own]])
        self.mean = np.concatenate([self.mean, mean])
        self.position[node] = slice(n, n + d)

    def slice(self, node):
        return self.position[node]

    def observe(self, looks):
        """Log-density of observations (node, L, R, y), and the moments of all states given them."""
        big = np.zeros((sum(len(y) for *_, y in looks), len(self.mean)))
        noise, seen, row = np.zeros((len(big), len(big))), [], 0
        for node, look, covariance, y in looks:
            rows = slice(row, row + len(y))
            big[rows, self.slice(node)] = look
            noise[rows, rows] = covariance
            seen.extend(y)
            row += len(y)
        total = big @ self.covariance @ big.T + noise
        residual = np.asarray(seen) - big @ self.mean
        gain = np.linalg.solve(total, big @ self.covariance).T
        density = multivariate_normal(np.zeros(len(seen)), total, allow_singular=True).logpdf(residual)
        return density, self.mean + gain @ residual, self.covariance - gain @ big @ self.covariance


def chain_joint(matrices, offsets, covariances):
    joint = Joint()
    joint.add(0, offset=MEAN, covariance=SPREAD)
    for t, (matrix, offset, covariance) in enumerate(zip(matrices, offsets, covariances, strict=True)):
        joint.add(t + 1, t, matrix, offset, covariance)
    return joint


def observed(y, look=LOOK, noise=NOISE):
    found = []
    for t, value in enumerate(y):
        seen = ~np.isnan(value)
        if seen.any():
            found.append((t, look[seen], noise[np.ix_(seen, seen)], value[seen]))
    return found


def root():
    return dist.MultivariateNormal(MEAN, SPREAD)


@pytest.mark.parametrize("times", [6, 60])
@pytest.mark.parametrize("missing", [False, True])
def test_a_chain_has_the_joint_normal_density(times, missing):
    y = RNG.normal(size=(times, 1))
    if missing:
        y[1:4] = np.nan
    joint = chain_joint([A] * (times - 1), [SHIFT] * (times - 1), [Q] * (times - 1))
    truth, _, _ = joint.observe(observed(y))
    graph = mjp.chain(mjp.LinearGaussian(A, SHIFT, Q), np.arange(times), initial=root())
    guided = mjp.condition(graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), y))
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-11)


LIKELIHOODS = {
    "class": mjp.LinearGaussianObservation(LOOK, NOISE),
    "normal": lambda x: dist.Normal(LOOK[0] @ x, 0.4**0.5),
    "event": lambda x: dist.Normal(LOOK @ x, 0.4**0.5).to_event(1),
    "multivariate": lambda x: dist.MultivariateNormal(LOOK @ x, NOISE),
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_that_are_linear_gaussian_are_recognised(name):
    y = RNG.normal(size=5)
    joint = chain_joint([A] * 4, [SHIFT] * 4, [Q] * 4)
    truth, _, _ = joint.observe(observed(y[:, None]))
    likelihood = LIKELIHOODS[name]
    graph = mjp.chain(mjp.StateSpace(lambda x: A @ x + SHIFT, Q), np.arange(5), initial=root())
    guided = mjp.condition(graph.observe_each(likelihood, y if name == "normal" else y[:, None]))
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-11)


def test_partly_missing_vectors_and_a_covariance_per_time():
    times, look = 5, np.array([[1.0, 0.5], [0.0, 2.0]])
    noise = np.array([np.eye(2) * (0.2 + t) + 0.1 for t in range(times)])
    y = RNG.normal(size=(times, 2))
    y[0, 1] = y[2, 0] = y[3, 0] = y[3, 1] = np.nan
    joint = chain_joint([A] * 4, [SHIFT] * 4, [Q] * 4)
    looks = [o for t in range(times) for o in [(t, look, noise[t], y[t])]]
    looks = [
        (t, lk[~np.isnan(v)], r[np.ix_(~np.isnan(v), ~np.isnan(v))], v[~np.isnan(v)])
        for t, lk, r, v in looks
        if (~np.isnan(v)).any()
    ]
    truth, _, _ = joint.observe(looks)
    graph = mjp.chain(mjp.LinearGaussian(A, SHIFT, Q), np.arange(times), initial=root())
    graph.observe_each(mjp.LinearGaussianObservation(look, noise), y)
    np.testing.assert_allclose(mjp.condition(graph).log_evidence, truth, rtol=1e-11)


def test_steps_that_change_and_a_deterministic_coordinate():
    matrices = RNG.normal(size=(4, 2, 2)) * 0.5
    offsets = RNG.normal(size=(4, 2))
    covariances = np.array([np.diag([0.5 + t, 0.0]) for t in range(4)])
    y = RNG.normal(size=(5, 1))
    truth, mean, _ = chain_joint(matrices, offsets, covariances).observe(observed(y))
    graph = mjp.chain(mjp.LinearGaussian(matrices, offsets, covariances), np.arange(5), initial=root())
    guided = mjp.condition(graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), y))
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-10)
    path, _ = guided.push({name: jnp.zeros(shape) for name, shape in guided.innovations.items()})
    np.testing.assert_allclose(path.values.reshape(-1), mean, atol=1e-9)


def test_draws_have_the_moments_of_the_smoothing_law():
    y = RNG.normal(size=(5, 1))
    _, mean, covariance = chain_joint([A] * 4, [SHIFT] * 4, [Q] * 4).observe(observed(y))
    graph = mjp.chain(mjp.LinearGaussian(A, SHIFT, Q), np.arange(5), initial=root())
    guided = mjp.condition(graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), y))
    # the draw is affine in the innovations, so that its moments are exact
    names = list(guided.innovations.items())
    sizes = [int(np.prod(shape)) for _, shape in names]

    def draw(flat):
        parts = jnp.split(flat, np.cumsum(sizes)[:-1])
        z = {name: part.reshape(shape) for (name, shape), part in zip(names, parts, strict=True)}
        path, log_weight = guided.push(z)
        return path.values.reshape(-1), log_weight

    zero = jnp.zeros(sum(sizes))
    slope = jax.jacrev(lambda flat: draw(flat)[0])(zero)
    np.testing.assert_allclose(draw(zero)[0], mean, atol=1e-10)
    np.testing.assert_allclose(slope @ slope.T, covariance, atol=1e-10)
    assert draw(jnp.ones_like(zero))[1] == 0.0


def test_several_series_have_one_evidence_each():
    y = RNG.normal(size=(3, 4, 1))
    y[1, 2] = np.nan
    joint = chain_joint([A] * 3, [SHIFT] * 3, [Q] * 3)
    truth = [joint.observe(observed(series))[0] for series in y]
    graph = mjp.chain(mjp.LinearGaussian(A, SHIFT, Q), np.arange(4), initial=root())
    graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), y)
    np.testing.assert_allclose(mjp.condition(graph).log_evidence, truth, rtol=1e-11)


B = np.array([[-0.5, 1.0], [0.0, -0.2]])
SIGMA = np.array([[0.0], [0.7]])


@pytest.mark.parametrize("duration", [1e-3, 0.7, 40.0])
def test_transitions_of_linear_diffusions(duration):
    a = SIGMA @ SIGMA.T
    phi, shift, covariance = linear_transition(jnp.asarray(B), jnp.asarray(SHIFT), jnp.asarray(a), duration)
    np.testing.assert_allclose(phi, expm(B * duration), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(shift, np.linalg.solve(B, (expm(B * duration) - np.eye(2)) @ SHIFT), rtol=1e-9)
    # Q solves B Q + Q B' + a = e^{Bδ} a e^{B'δ}
    end = expm(B * duration) @ a @ expm(B * duration).T
    np.testing.assert_allclose(B @ covariance + covariance @ B.T + a, end, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
def test_an_integrated_diffusion_seen_through_its_integral(steps):
    """Hypo-elliptic: noise drives the second coordinate only, and the first is observed."""
    times = np.array([0.0, 0.3, 1.0, 1.4])
    process = mjp.LinearDiffusion(B, SHIFT, SIGMA)
    y = RNG.normal(size=(4, 1))
    parts = [
        [np.asarray(p) for p in linear_transition(jnp.asarray(B), jnp.asarray(SHIFT), SIGMA @ SIGMA.T, dt)]
        for dt in np.diff(times)
    ]
    truth, _, _ = chain_joint(*zip(*[(p[0], p[1], p[2]) for p in parts], strict=True)).observe(
        observed(y, np.array([[1.0, 0.0]]))
    )
    graph = mjp.chain(process, times, initial=root(), steps=steps)
    graph.observe_each(lambda x: dist.Normal(x[0], 0.4**0.5), y[:, 0])
    guided = mjp.condition(graph)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-8)


def caterpillar(n):
    tree = nx.DiGraph()
    for i in range(n):
        tree.add_edge(f"in{i}", f"in{i + 1}", length=0.3)
        tree.add_edge(f"in{i}", f"leaf{i}", length=0.5 + 0.1 * i)
    return tree


def star(n):
    tree = nx.DiGraph()
    for i in range(n):
        tree.add_edge("root", f"leaf{i}", length=0.5 + 0.1 * i)
    return tree


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("tree", [caterpillar(5), star(7)], ids=["caterpillar", "star"])
@pytest.mark.parametrize("known_root", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_ornstein_uhlenbeck_process_on_a_tree(tree, steps, known_root):
    joint, process = Joint(), mjp.LinearDiffusion(B, SHIFT, np.array([[0.3, 0.0], [0.1, 0.7]]))
    for node in nx.topological_sort(tree):
        parents = list(tree.predecessors(node))
        if not parents:
            joint.add(node, offset=MEAN, covariance=0 * SPREAD if known_root else SPREAD)
            continue
        sigma = np.array([[0.3, 0.0], [0.1, 0.7]])
        parts = linear_transition(
            jnp.asarray(B), jnp.asarray(SHIFT), sigma @ sigma.T, tree.edges[parents[0], node]["length"]
        )
        joint.add(node, parents[0], *map(np.asarray, parts))
    seen = [n for n in tree if n.startswith("leaf")] + (["in2"] if "in2" in tree else [])
    values = {name: RNG.normal(size=1) for name in seen}
    truth, mean, _ = joint.observe([(name, LOOK, NOISE, y) for name, y in values.items()])
    graph = mjp.tree(tree, process, initial=MEAN if known_root else root(), steps=steps)
    graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), values)
    guided = mjp.condition(graph)
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-10)
    path, log_weight = guided.push({k: jnp.zeros(s) for k, s in guided.innovations.items()})
    assert guided.exact
    assert log_weight == 0.0
    for node in tree:
        np.testing.assert_allclose(path[node], mean[joint.slice(node)], atol=1e-9)


def test_two_kinds_of_edges_on_one_graph():
    joint = Joint()
    joint.add("a", offset=MEAN, covariance=SPREAD)
    joint.add("b", "a", A, SHIFT, Q)
    joint.add("c", "b", 0.5 * A, 0 * SHIFT, 2 * Q)
    joint.add("d", "a", 0.5 * A, 0 * SHIFT, 2 * Q)
    first, second = mjp.LinearGaussian(A, SHIFT, Q), mjp.LinearGaussian(0.5 * A, covariance=2 * Q)
    graph = mjp.Graph()
    graph.root("a", root())
    graph.edge("a", "b", first).edge("b", "c", second).edge("a", "d", second)
    see = mjp.LinearGaussianObservation(LOOK, NOISE)
    values = {name: RNG.normal(size=1) for name in "bcd"}
    for name, value in values.items():
        graph.observe(name, see, value)
    truth, mean, _ = joint.observe([(name, LOOK, NOISE, y) for name, y in values.items()])
    guided = mjp.condition(graph)
    np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-11)
    path, _ = guided.push({k: jnp.zeros(s) for k, s in guided.innovations.items()})
    for name in "abcd":
        np.testing.assert_allclose(path[name], mean[joint.slice(name)], atol=1e-10)


def test_the_gradient_is_that_of_finite_differences():
    y = RNG.normal(size=(7, 1))

    def evidence(theta):
        process = mjp.LinearGaussian(A * theta[0], SHIFT * theta[1], Q * theta[2])
        graph = mjp.chain(process, np.arange(7), initial=root())
        return mjp.condition(graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), y)).log_evidence

    theta = jnp.array([1.0, 1.1, 0.9])
    gradient = jax.jit(jax.grad(evidence))(theta)
    evaluate = jax.jit(evidence)
    for i in range(3):
        step = jnp.zeros(3).at[i].set(1e-5)
        difference = (evaluate(theta + step) - evaluate(theta - step)) / 2e-5
        np.testing.assert_allclose(gradient[i], difference, rtol=1e-6)


HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def anoles():
    newick = (Path(mjp.__file__).parent / "models" / "data" / "anole_tree.nwk").read_text()
    traits = pandas.read_csv(HERE / "data" / "anole_traits.csv", index_col=0)
    reference = json.loads((HERE / "reference" / "phylo_bm.json").read_text())
    return newick, traits, reference


def evidence_of_sizes(anoles, process, initial, likelihood=None, columns=("SVL",)):
    newick, traits, _ = anoles
    values = {name: row.to_numpy() for name, row in traits[list(columns)].iterrows()}
    graph = mjp.tree(newick, process, initial=initial)
    graph.observe_each(mjp.Exactly() if likelihood is None else likelihood, values)
    guided = mjp.condition(graph)
    assert guided.exact
    return float(guided.log_evidence)


def test_brownian_motion_on_a_phylogeny_as_ape_and_phytools_compute_it(anoles):
    reference = anoles[2]
    brownian = lambda variance: mjp.LinearDiffusion(0.0, dispersion=variance**0.5)
    for case in reference["bm_fixed"]:
        found = evidence_of_sizes(anoles, brownian(case["sigma2"]), jnp.array([float(case["x0"])]))
        np.testing.assert_allclose(found, case["loglik"], rtol=1e-10)
    found = evidence_of_sizes(anoles, brownian(0.1), dist.Normal(4.0, 1.0))
    np.testing.assert_allclose(found, reference["bm_integrated_flat_root"]["loglik"], rtol=1e-10)
    see = lambda x: dist.Normal(x[0], 0.05)
    found = evidence_of_sizes(anoles, brownian(0.1), jnp.array([4.0]), see)
    np.testing.assert_allclose(found, reference["bm_noise"]["loglik"], rtol=1e-10)


def test_ornstein_uhlenbeck_processes_on_a_phylogeny(anoles):
    reference = anoles[2]
    process = mjp.LinearDiffusion(-1.5, 1.5 * 4.0, 0.3**0.5)
    found = evidence_of_sizes(anoles, process, dist.Normal(4.0, 0.1**0.5))
    np.testing.assert_allclose(found, reference["ou_stationary"]["loglik"], rtol=1e-10)
    process = mjp.LinearDiffusion(-1.5, 1.5 * 4.1, 0.3**0.5)
    found = evidence_of_sizes(anoles, process, jnp.array([3.9]))
    np.testing.assert_allclose(found, reference["ou_fixed_root"]["loglik"], rtol=1e-10)


@pytest.mark.slow
def test_three_traits_at_once(anoles):
    case = anoles[2]["mvbm"]
    process = mjp.LinearDiffusion(np.zeros((3, 3)), dispersion=np.linalg.cholesky(np.array(case["R"])))
    found = evidence_of_sizes(anoles, process, jnp.array(case["x0"], float), columns=case["columns"])
    np.testing.assert_allclose(found, case["loglik"], rtol=1e-10)


def test_exact_observations_of_a_part_of_the_state():
    """Against the joint law, with edges of several steps and without noise of observation."""
    times, look = np.array([0.0, 0.3, 1.0, 1.4]), np.array([[1.0, 0.3]])
    process = mjp.LinearDiffusion(B, SHIFT, np.array([[0.3, 0.0], [0.1, 0.7]]))
    y = RNG.normal(size=(4, 1))
    y[0] = np.nan
    parts = [
        [
            np.asarray(p)
            for p in linear_transition(
                jnp.asarray(B), jnp.asarray(SHIFT), process.dispersion.value @ process.dispersion.value.T, dt
            )
        ]
        for dt in np.diff(times)
    ]
    joint = chain_joint(*zip(*[(p[0], p[1], p[2]) for p in parts], strict=True))
    truth, mean, _ = joint.observe(observed(y, look, np.zeros((1, 1))))
    for steps in (1, 3):
        graph = mjp.chain(process, times, initial=root(), steps=steps)
        guided = mjp.condition(graph.observe_each(mjp.LinearGaussianObservation(look, 0.0), y))
        np.testing.assert_allclose(guided.log_evidence, truth, rtol=1e-10)
        path, _ = guided.sample(jax.random.key(0))
        np.testing.assert_allclose(look @ path[2], y[2], atol=1e-9)
        path, _ = guided.push({k: jnp.zeros(s) for k, s in guided.innovations.items()})
        np.testing.assert_allclose(path.values.reshape(-1), mean, atol=1e-9)
        assert path.edge(1, 2).values.shape == (steps + 1, 2)
        np.testing.assert_allclose(path.at(times), path.values, atol=1e-12)


def one_step_ahead(joint, looks, times):
    """Terms by node as differences of joint densities of the observations up to each time."""
    upto = [0.0]
    for t in range(times):
        past = [look for look in looks if look[0] <= t]
        upto.append(joint.observe(past)[0] if past else 0.0)
    return np.diff(upto)


def looks_of(y, look, noise):
    """Observations through a matrix, with the noise of each time, of what is there."""
    found = []
    for t, value in enumerate(y):
        seen = ~np.isnan(value)
        if seen.any():
            found.append((t, look[seen], noise[t][np.ix_(seen, seen)], value[seen]))
    return found


@pytest.mark.parametrize("sd", [1.0, 1e-5], ids=["blunt", "sharp"])
def test_one_step_ahead_terms_of_partial_and_repeated_observations(sd):
    times, look = 5, np.array([[1.0, 0.5], [0.0, 2.0]])
    noise = np.array([np.eye(2) * (0.2 + t) + 0.1 for t in range(times)]) * sd**2
    y, again = RNG.normal(size=(times, 2)), RNG.normal(size=(times, 1))
    y[0, 1] = y[2, 0] = y[3, 0] = y[3, 1] = again[0, 0] = np.nan
    joint = chain_joint([A] * 4, [SHIFT] * 4, [Q] * 4)
    looks = looks_of(y, look, noise) + looks_of(again, LOOK, [NOISE] * times)
    graph = mjp.chain(mjp.LinearGaussian(A, SHIFT, Q), np.arange(times), initial=root())
    graph.observe_each(mjp.LinearGaussianObservation(look, noise), y)
    graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), again)
    guided = mjp.condition(graph)
    np.testing.assert_allclose(guided.terms, one_step_ahead(joint, looks, times), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(jnp.sum(guided.terms), guided.log_evidence, rtol=1e-9 if sd == 1.0 else 1e-6)
    assert guided.terms[3] != 0.0  # seen through the second matrix only
    assert mjp.condition(mjp.tree(star(3), mjp.LinearDiffusion(B, None, SIGMA), initial=MEAN)).terms is None


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_one_step_ahead_terms_of_exact_observations(steps):
    """An exact observation counts at its own node, after what was seen of the node before it."""
    times, look = np.array([0.0, 0.3, 1.0, 1.4]), np.array([[1.0, 0.3]])
    sigma = np.array([[0.3, 0.0], [0.1, 0.7]])
    parts = [
        list(map(np.asarray, linear_transition(jnp.asarray(B), jnp.asarray(SHIFT), sigma @ sigma.T, dt)))
        for dt in np.diff(times)
    ]
    joint = chain_joint(*zip(*parts, strict=True))
    y, blurred = RNG.normal(size=(4, 1)), RNG.normal(size=(4, 1))
    y[0] = np.nan
    y[2] = np.nan
    looks = observed(y, look, np.zeros((1, 1))) + observed(blurred)
    graph = mjp.chain(mjp.LinearDiffusion(B, SHIFT, sigma), times, initial=root(), steps=steps)
    graph.observe_each(mjp.LinearGaussianObservation(look, 0.0), y)
    graph.observe_each(mjp.LinearGaussianObservation(LOOK, NOISE), blurred)
    guided = mjp.condition(graph)
    np.testing.assert_allclose(guided.terms, one_step_ahead(joint, looks, 4), rtol=1e-9)
    np.testing.assert_allclose(jnp.sum(guided.terms), guided.log_evidence, rtol=1e-9)


def test_terms_are_the_factor_of_a_model_and_have_the_gradient_of_the_evidence():
    y = RNG.normal(size=6)

    def graph(scale):
        process = mjp.LinearGaussian(A, SHIFT, Q * scale)
        chain = mjp.chain(process, np.arange(6), initial=root())
        return chain.observe_each(lambda x: dist.Normal(LOOK[0] @ x, 0.4**0.5), y)

    def model():
        mjp.sample("x", graph(numpyro.sample("scale", dist.LogNormal())))

    draws = {"scale": jnp.array([0.7, 1.3])}
    pointwise = numpyro.infer.log_likelihood(model, draws)["x.log_likelihood"]
    np.testing.assert_allclose(pointwise[1], mjp.condition(graph(1.3)).terms, rtol=1e-12)
    terms = jax.jit(jax.grad(lambda s: jnp.sum(mjp.condition(graph(s)).terms)))
    evidence = jax.jit(jax.grad(lambda s: mjp.condition(graph(s)).log_evidence))
    np.testing.assert_allclose(terms(1.3), evidence(1.3), rtol=1e-9)


# The 16 leaves of hyperiax's notebooks "Gaussian BFFG" and "Gaussian NUTS": a binary tree of 31 nodes with
# unit edges, the root at zero, seed 202605 (`jax.random.PRNGKey`, float32).
HYPERIAX_LEAVES = [
    -3.23184544, -1.77594972, -3.10586593, -1.82588863, -1.48292662, 0.63462077, -1.68390494, -1.62455474,
    -0.58296961, -0.47483671, -1.07534136, 0.30642226, -0.40320788, -0.80358248, -0.21134379, 0.56311185,
]  # fmt: skip


def test_the_tree_of_hyperiax_has_its_density_and_posterior_means():
    """Brownian traits with variances σ² per edge and τ² per leaf, log-priors N(0, 2²), on its own grid."""
    tree = nx.DiGraph()
    tree.add_edges_from(((i - 1) // 2, i, {"length": 1.0}) for i in range(1, 31))
    values = dict(zip(range(15, 31), np.array(HYPERIAX_LEAVES)[:, None], strict=True))

    def evidence(log_variance, log_noise):
        process = mjp.LinearGaussian(1.0, covariance=jnp.exp(log_variance))
        graph = mjp.tree(tree, process, initial=jnp.zeros(1))
        graph.observe_each(lambda x: dist.Normal(x, jnp.exp(0.5 * log_noise)), values)
        return mjp.condition(graph).log_evidence

    np.testing.assert_allclose(evidence(np.log(0.5), np.log(0.1)), -24.4213, atol=5e-5)
    log_variance, log_noise = np.linspace(-3.0, 2.0, 200), np.linspace(-5.0, 1.0, 200)
    along = lambda v: jax.vmap(lambda n: evidence(v, n))(log_noise)
    found = np.asarray(jax.jit(lambda grid: jax.lax.map(along, grid))(log_variance))
    found = found - log_variance[:, None] ** 2 / 8 - log_noise[None] ** 2 / 8
    posterior = np.exp(found - found.max())
    posterior /= posterior.sum()
    np.testing.assert_allclose(posterior.sum(1) @ np.exp(log_variance), 0.4669, atol=5e-5)
    np.testing.assert_allclose(posterior.sum(0) @ np.exp(log_noise), 0.3721, atol=5e-5)
