"""Nodes with several parents: evidence, draws and weights against enumeration of all configurations."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size
from scipy.linalg import expm
from scipy.stats import norm

import mjp
from mjp.inference.projection import reference_laws
from mjp.inference.state_tables import evaluate

pytestmark = pytest.mark.usefixtures("quick_compilation")

DRAWS = 8000
LEVEL, NOISE = np.array([0.0, 1.0, 2.5]), 0.6


def table(rng, *shape):
    return rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])


class Network:
    """A network declared for mjp and, beside it, solved by enumeration of all configurations."""

    def __init__(self, seed=0):
        self.rng, self.graph = np.random.default_rng(seed), mjp.Graph()
        self.names, self.sizes, self.laws, self.weights = [], [], [], []

    def root(self, name, size, known=None):
        law = table(self.rng, size) if known is None else np.eye(size)[known]
        self.graph.root(name, dist.Categorical(jnp.asarray(law)) if known is None else known)
        return self._add(name, (), law)

    def child(self, name, parents, size, process=None, law=None):
        numbers = tuple(self.names.index(parent) for parent in parents)
        if law is None:
            law = table(self.rng, *(self.sizes[i] for i in numbers), size)
            process = mjp.ConditionalTable(law)
        self.graph.edge(parents if len(parents) > 1 else parents[0], name, process)
        return self._add(name, numbers, law)

    def _add(self, name, parents, law):
        self.names.append(name)
        self.sizes.append(law.shape[-1])
        self.laws.append((parents, law))
        self.weights.append(np.ones(law.shape[-1]))
        return self

    def exactly(self, name, state):
        self.graph.observe(name, mjp.Exactly(), state)
        return self._weigh(name, lambda size: np.eye(size)[state])

    def noisy(self, name, value):
        self.graph.observe(name, lambda x: dist.Normal(jnp.asarray(LEVEL)[x], NOISE), value)
        return self._weigh(name, lambda size: norm.pdf(value, LEVEL[:size], NOISE))

    def _weigh(self, name, weight):
        i = self.names.index(name)
        self.weights[i] = self.weights[i] * weight(self.sizes[i])
        return self

    def enumerated(self):
        """The evidence, and the posterior probability of every configuration (K1, ..., Kn)."""
        states = np.indices(self.sizes)
        joint = np.ones(self.sizes)
        for i, (parents, law) in enumerate(self.laws):
            joint *= law[(*(states[p] for p in parents), states[i])] * self.weights[i][states[i]]
        return joint.sum(), joint / joint.sum()


def collider():
    return Network(1).root("a", 2).root("b", 3).child("c", ("a", "b"), 3).noisy("c", 1.4)


def collider_below_a_fork():
    """a -> b, a -> c, (b, c) -> d: a loop if the directions are ignored."""
    network = Network(2).root("a", 3).child("b", ("a",), 2).child("c", ("a",), 3)
    return network.child("d", ("b", "c"), 2).exactly("d", 1).noisy("b", 0.8)


def several_colliders():
    network = Network(3).root("a", 3).root("b", 3).root("c", 3)
    network.child("d", ("a", "b"), 3).child("e", ("b", "c"), 3).child("f", ("d", "e"), 3)
    return network.noisy("f", 2.0).noisy("d", 0.3)


def three_parents_and_other_kinds_of_edges():
    """Known, unseen and twice seen nodes, and a jump process whose rates change along its edge."""
    network = Network(4).root("a", 2).root("b", 2).root("c", 3, known=2)
    network.child("d", ("a", "b", "c"), 2).child("e", ("d", "c"), 3)
    q = [[0.0, 0.7, 0.3], [0.2, 0.0, 0.4], [0.5, 0.1, 0.0]]
    rates = np.array([q, 2.0 * np.array(q)])
    generators = rates - np.eye(3) * rates.sum(axis=2)[..., None]
    law = expm(0.4 * generators[0]) @ expm(0.6 * generators[1])
    network.child("f", ("e",), 3, mjp.MarkovJump(rates, breaks=[0.4]), law)
    matrix = table(network.rng, 3, 3)
    network.child("g", ("f",), 3, mjp.MarkovChain(matrix), matrix).child("unseen", ("g", "a"), 2)
    return network.noisy("f", 1.0).noisy("f", 0.6).exactly("g", 0)


def two_pieces():
    """Two networks that do not meet, and a node without evidence below."""
    network = Network(5).root("a", 2).root("b", 2).child("c", ("a", "b"), 3).noisy("c", 0.2)
    return network.root("u", 3).child("v", ("u",), 2).exactly("v", 0).child("w", ("u", "v"), 2)


CASES = [
    collider,
    collider_below_a_fork,
    several_colliders,
    three_parents_and_other_kinds_of_edges,
    two_pieces,
]


@pytest.mark.parametrize("build", CASES)
def test_evidence_and_draws_equal_enumeration(build):
    """Joint draws of all pairs of nodes, to 4 standard errors; the log-weight is zero (law 1)."""
    network = build()
    evidence, posterior = network.enumerated()

    @jax.jit
    def run(keys):
        guided = mjp.condition(network.graph, max_jumps=12)
        assert guided.exact
        return guided.log_evidence, *jax.vmap(guided.sample)(keys)

    found, drawn, log_weight = run(jax.random.split(jax.random.key(0), DRAWS))
    assert float(found) == pytest.approx(np.log(evidence), abs=1e-12)
    assert np.all(np.asarray(log_weight) == 0.0)
    if drawn.jumps is not None:
        np.testing.assert_array_equal(drawn.edge("e", "f").at(1.0), drawn["f"])
        assert int(jnp.sum(drawn.overflow)) == 0
    states, n = np.asarray(drawn.values), len(network.names)
    for i in range(n):
        for j in range(i + 1, n):
            pair = posterior.sum(axis=tuple(k for k in range(n) if k not in (i, j)))
            share = np.zeros_like(pair)
            np.add.at(share, (states[:, i], states[:, j]), 1.0 / DRAWS)
            error = np.sqrt(pair * (1 - pair) / DRAWS)
            np.testing.assert_array_less(np.abs(share - pair), 4 * error + 1e-9)


@pytest.mark.parametrize("auxiliary", ["prior", "uniform"])
@pytest.mark.parametrize("build", [collider, collider_below_a_fork, several_colliders])
def test_projected_guides_are_unbiased(build, auxiliary):
    """Law 2: the mean weight is the evidence, and weighted draws have the posterior, to 4 standard errors."""
    network = build()
    evidence, posterior = network.enumerated()

    @jax.jit
    def run(keys):
        guided = mjp.condition(network.graph, auxiliary=auxiliary)
        assert not guided.exact
        drawn, log_weight = jax.vmap(guided.sample)(keys)
        return drawn, guided.log_evidence + log_weight

    drawn, logs = run(jax.random.split(jax.random.key(1), DRAWS))
    weights = np.exp(np.asarray(logs))
    assert weights.std() > 0
    assert abs(weights.mean() - evidence) < 4 * weights.std() / np.sqrt(DRAWS)
    first = posterior.sum(axis=tuple(range(1, len(network.names))))
    excess = weights * ((np.asarray(drawn.values)[:, 0] == 0) - first[0])
    assert abs(excess.mean()) < 4 * excess.std() / np.sqrt(DRAWS)


def test_projections_that_lose_nothing():
    """Law 1: one parent is known, or nothing was seen below, or there is one parent."""
    network = Network(6).root("a", 2).root("b", 3, known=1).child("c", ("a", "b"), 3).child("d", ("c",), 2)
    network.exactly("d", 1).root("e", 2).child("f", ("a", "e"), 2)
    guided = mjp.condition(network.graph, auxiliary="uniform")
    assert guided.exact
    assert float(guided.log_evidence) == pytest.approx(np.log(network.enumerated()[0]), abs=1e-12)
    _, log_weight = jax.jit(jax.vmap(guided.sample))(jax.random.split(jax.random.key(2), 100))
    np.testing.assert_allclose(log_weight, 0.0, atol=1e-12)


def test_a_product_of_effects_is_projected_without_loss():
    """The pullback of a table whose parents act separately is a product already."""
    a, b = np.array([0.2, 0.9]), np.array([0.5, 0.3, 0.8])
    works = a[:, None] * b
    graph = mjp.Graph().root("a", dist.Categorical(jnp.array([0.3, 0.7])))
    graph.root("b", dist.Categorical(jnp.array([0.2, 0.5, 0.3])))
    graph.edge(("a", "b"), "c", mjp.ConditionalTable(np.stack([1 - works, works], axis=-1)))
    graph.observe("c", mjp.Exactly(), 1)

    @jax.jit
    def run(keys):
        guided = [mjp.condition(graph, auxiliary=auxiliary) for auxiliary in ("prior", "uniform")]
        totals = [one.log_evidence + jax.vmap(one.sample)(keys)[1] for one in guided]
        return jnp.stack(totals), mjp.condition(graph).log_evidence

    totals, exact = run(jax.random.split(jax.random.key(3), 50))
    np.testing.assert_allclose(totals, exact, atol=1e-12)


def test_a_table_that_is_too_large_is_projected():
    network = several_colliders()
    found = mjp.evidence(network.graph, jax.random.key(4), 4000, max_table=8)
    assert float(found.standard_error) > 0
    exact = np.log(network.enumerated()[0])
    assert abs(float(found.log_evidence) - exact) < 4 * float(found.standard_error)


@pytest.mark.slow
def test_a_deep_network():
    """150 generations, each with the last two as parents: the evidence, and laws that stay laws."""
    rng, n = np.random.default_rng(7), 150
    law, values = mjp.ConditionalTable(table(rng, 2, 2, 2)), rng.normal(size=n)
    graph = mjp.Graph().root(0, dist.Categorical(jnp.array([0.5, 0.5]))).root(1, 0)
    for i in range(2, n):
        graph.edge((i - 2, i - 1), i, law)
        if i % 3 == 0:
            graph.observe(i, lambda x: dist.Normal(1.0 * x, 1.0), values[i])
    # beside it the same as a chain of pairs
    step, weights = np.asarray(law.table), norm.pdf(values[:, None], [0.0, 1.0])
    pair, total = np.array([[0.5, 0.0], [0.5, 0.0]]), 0.0
    for i in range(2, n):
        pair = np.einsum("ab,abc->bc", pair, step) * (weights[i] if i % 3 == 0 else 1.0)
        total, pair = total + np.log(pair.sum()), pair / pair.sum()

    assert float(mjp.condition(graph).log_evidence) == pytest.approx(total, abs=1e-10)
    laws = jax.jit(reference_laws, static_argnums=1)(evaluate(graph), "prior")
    np.testing.assert_allclose([float(law.sum()) for law in laws], 1.0, atol=1e-12)


def test_simulated_networks_have_the_law_of_the_prior():
    network = collider_below_a_fork()
    draws = jax.vmap(lambda key: mjp.simulate(network.graph, key))
    drawn = jax.jit(draws)(jax.random.split(jax.random.key(5), DRAWS))
    network.weights = [np.ones(size) for size in network.sizes]
    _, prior = network.enumerated()
    for i in range(len(network.names)):
        law = prior.sum(axis=tuple(k for k in range(len(network.names)) if k != i))
        share = (np.asarray(drawn.values)[:, i, None] == np.arange(len(law))).mean(axis=0)
        np.testing.assert_array_less(np.abs(share - law), 4 * np.sqrt(law * (1 - law) / DRAWS) + 1e-9)


def sprinkler(theta, wet=None):
    """Rain and a sprinkler, two lawns, and a neighbour who looks at both of them."""
    rain, power = theta
    soaked = lambda r, s: jnp.array([1.0, 0.0]) if r + s == 0 else jnp.stack([1 - power, power])
    lawn = mjp.ConditionalTable(soaked, ["dry", "wet"], parents=[2, 2])
    graph = mjp.Graph().root("rain", dist.Categorical(jnp.stack([1 - rain, rain])))
    graph.root("a", dist.Categorical(jnp.array([0.6, 0.4]))).root(
        "b", dist.Categorical(jnp.array([0.8, 0.2]))
    )
    graph.edge(("rain", "a"), "left", lawn).edge(("rain", "b"), "right", lawn)
    both = mjp.ConditionalTable(
        [[[0.9, 0.1], [0.5, 0.5]], [[0.4, 0.6], [0.05, 0.95]]],
        parents=[["dry", "wet"], ["dry", "wet"]],
    )
    graph.edge(("left", "right"), "report", both)
    for node, value in (wet or {}).items():
        graph.observe(node, mjp.Exactly(), value)
    return graph


SEEN = {"left": "wet", "report": 1}


def test_gradients_are_those_of_finite_differences():
    """Central differences with a step of 1e-5 have an error near 1e-9."""
    total = lambda theta: mjp.condition(sprinkler(theta, SEEN)).log_evidence
    theta = jnp.array([0.3, 0.8])
    values, gradient = jax.jit(jax.value_and_grad(total))(theta)
    steps = 1e-5 * jnp.eye(2)
    mapped = jax.jit(jax.vmap(total))
    differences = (mapped(theta + steps) - mapped(theta - steps)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-8)
    assert float(mapped(theta[None])[0]) == pytest.approx(float(values), abs=1e-13)


def test_labels_of_nodes_that_differ():
    drawn, _ = mjp.condition(sprinkler(jnp.array([0.3, 0.8]), SEEN)).sample(jax.random.key(0))
    assert drawn.label("left") == "wet"
    assert drawn.label("report") == 1
    assert drawn.to_xarray().sel(node=["left", "report"]).values.tolist() == ["wet", 1]
    with pytest.raises(KeyError, match="is one step"):
        drawn.edge("rain", "left")


def test_impossible_data():
    graph = sprinkler(jnp.array([0.3, 1.0]), {"left": "dry", "rain": 1})
    with pytest.raises(ValueError, match="the observations are impossible under the model"):
        mjp.condition(graph)


def weather(days):
    """Independent days, with the same parameters."""
    rain = numpyro.sample("rain", dist.Beta(2.0, 2.0))
    power = numpyro.sample("power", dist.Beta(4.0, 2.0))
    for i, day in enumerate(days):
        mjp.sample(f"day {i}", sprinkler((rain, power), day))


DAYS = [{"left": "wet", "report": 1}, {"left": "dry", "report": 0}, {"report": 1, "b": 0}]


def compare_with_a_grid(fit, days):
    """Posterior means of the parameters by quadrature, to 4 standard errors."""
    grid = (np.arange(60) + 0.5) / 60
    r, p = (jnp.asarray(axis.reshape(-1)) for axis in np.meshgrid(grid, grid, indexing="ij"))
    logs = dist.Beta(2.0, 2.0).log_prob(r) + dist.Beta(4.0, 2.0).log_prob(p)
    for day in days:
        one = lambda theta, day=day: mjp.condition(sprinkler(theta, day)).log_evidence
        logs += jax.jit(jax.vmap(one))(jnp.stack([r, p], axis=1))
    weights = np.exp(np.asarray(logs))
    weights /= weights.sum()
    for name, values in (("rain", r), ("power", p)):
        draws = fit.samples[name]
        error = draws.std() / np.sqrt(effective_sample_size(draws))
        assert abs(draws.mean() - weights @ values) < 4 * error


def test_a_fit():
    fit = mjp.fit(weather, DAYS[:1], draws=200, warmup=100, chains=2, progress=False)
    assert fit.engine == "NUTS"
    compare_with_a_grid(fit, DAYS[:1])
    left = fit.paths("day 0", draws=20).sel({"day 0_node": "left"})
    assert np.all(left == 1)


@pytest.mark.slow
def test_a_fit_of_several_networks(tmp_path):
    fit = mjp.fit(weather, DAYS, draws=2000, warmup=500, chains=4, progress=False)
    compare_with_a_grid(fit, DAYS)
    seen = fit.data["observed_data"]["day 0_0"]
    assert seen.sel({"day 0_node": "left"}).item() == 1
    assert fit.data["paths"]["day 0"].attrs["states"] == ["0", "1"]
    page = fit.report(tmp_path / "report.html").read_text()
    assert "could not be made" not in page


def test_a_guided_network_is_no_site_of_a_model():
    def model():
        rain = numpyro.sample("rain", dist.Beta(2.0, 2.0))
        mjp.sample("day", sprinkler((rain, 0.8), SEEN), auxiliary="prior")

    with pytest.raises(ValueError, match="day: the path of this graph is discrete and not exactly"):
        mjp.fit(model, draws=10, warmup=10, chains=1, progress=False)


# ----------------------------------------------------------------------------------- bad input

TWO = dist.Categorical(jnp.array([0.5, 0.5]))
SQUARE = np.full((2, 2, 2), 0.5)
TABLE = mjp.ConditionalTable(SQUARE)
NAMED = mjp.ConditionalTable(SQUARE, ["x", "y"])
STEP = mjp.MarkovChain(SQUARE[0])


def pair(*edges):
    graph = mjp.Graph().root("a", TWO).root("b", TWO)
    for edge in edges:
        graph.edge(*edge)
    return graph


def declared(*edges):
    return lambda: pair(*edges)


def conditioned(*edges, **options):
    return lambda: mjp.condition(pair(*edges), **options)


def table_of(table, **options):
    return lambda: mjp.ConditionalTable(table, **options)


def after_a_diffusion():
    graph = pair().root("x", 0.0).edge("x", "y", mjp.LinearDiffusion(0.0, dispersion=1.0))
    graph.edge(("a", "y"), "c", TABLE)


AB = ("a", "b")
BAD = {
    "unknown parent": (declared((("a", "z"), "c", TABLE)), "unknown node 'z'"),
    "parent twice": (declared((("a", "a"), "c", TABLE)), "'a' is named twice"),
    "a cycle": (
        declared((AB, "c", TABLE), ("c", "a", STEP)),
        "node 'a' exists already; a second edge into it would .* close a cycle",
    ),
    "too few parents": (declared(("a", "c", TABLE)), "ConditionalTable takes 2 parents, got 1"),
    "too many parents": (declared((AB, "c", STEP)), "MarkovChain takes one parent, got 2"),
    "another family": (
        after_a_diffusion,
        "'y' of edge .* is a state of LinearDiffusion, where ConditionalTable needs one of 2 labelled states",
    ),
    "sizes of parents": (
        conditioned((AB, "c", mjp.ConditionalTable(np.full((2, 3, 2), 0.5)))),
        "initial must be a Distribution over the 3 states",
    ),
    "states of a child": (
        conditioned((AB, "c", NAMED), ("c", "d", STEP)),
        r"node 'c' has the states \['x', 'y'\], where MarkovChain needs the states \[0, 1\]",
    ),
    "labels of parents": (
        conditioned(
            (AB, "c", NAMED), (("a", "c"), "d", mjp.ConditionalTable(SQUARE, parents=[2, ["x", "z"]]))
        ),
        r"node 'c' has the states \['x', 'y'\], where ConditionalTable needs the states \['x', 'z'\]",
    ),
    "one axis": (table_of([0.5, 0.5]), r"table must have an axis .* got shape \(2,\)"),
    "sums": (table_of(SQUARE * 1.2), "table must sum to 1"),
    "parents of a table": (
        table_of(SQUARE, parents=[2, 3]),
        r"table must have shape \(2, 3, K\) for these parents, got shape \(2, 2, 2\)",
    ),
    "states of a table": (table_of(SQUARE, states=["x"]), "states must name the 2 states of table, got 1"),
    "function without parents": (table_of(lambda a, b: SQUARE[a, b]), "parents must say how many"),
    "function of a matrix": (
        table_of(lambda a, b: SQUARE, parents=[2, 2]),
        r"table must return probabilities \(K,\), got the shapes \[\(2, 2, 2\)\]",
    ),
    "observed state": (
        lambda: mjp.condition(pair((AB, "c", TABLE)).observe("c", mjp.Exactly(), 2)),
        "node 'c': unknown state 2",
    ),
    "auxiliary": (
        conditioned((AB, "c", TABLE), auxiliary="posterior"),
        "auxiliary must be one of .* got 'posterior'",
    ),
    "max_table": (
        conditioned((AB, "c", TABLE), max_table=0),
        "max_table must be a positive integer, got 0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name):
    declare, message = BAD[name]
    with pytest.raises((ValueError, TypeError), match=message):
        declare()


def test_a_picture_and_the_networkx_graph():
    import matplotlib

    matplotlib.use("Agg")
    graph = sprinkler((0.3, 0.8), SEEN)
    assert set(graph.nx.predecessors("report")) == {"left", "right"}
    assert graph.draw() is not None
    with pytest.raises(TypeError, match="node 'left' has 2 parents"):
        graph.parents()
