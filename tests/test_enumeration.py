"""Evidence, draws and their weights agree with brute-force enumeration of all states of small graphs."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import expm
from scipy.stats import norm, poisson

import mjp

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(7)
N_DRAWS = 4000


class Enumerated:
    """A component of a graph, by a table of the joint probability of all its states."""

    def __init__(self, parents, kernels, weights):
        """Kernels are matrices for children and vectors for roots; weights are (n, K)."""
        n, k = np.shape(weights)
        states = np.indices((k,) * n).reshape(n, -1)
        joint = np.ones(k**n)
        for node, (parent, kernel) in enumerate(zip(parents, kernels, strict=True)):
            joint *= kernel[states[node]] if parent < 0 else kernel[states[parent], states[node]]
            joint *= np.asarray(weights)[node, states[node]]
        self.log_evidence = np.log(joint.sum())
        one_hot = states[:, None] == np.arange(k)[:, None]
        self.marginals = one_hot @ (joint / joint.sum())


def stochastic(*shape):
    return RNG.dirichlet(np.ones(shape[-1]), size=shape[:-1])


def random_rates(k):
    return RNG.uniform(0.1, 1.5, size=(k, k))


def generator(rates):
    off = rates * (1 - np.eye(len(rates)))
    return off - np.diag(off.sum(axis=1))


def one_hot(k, *states):
    return np.isin(np.arange(k), states).astype(float)


# Chains in discrete time

K = 3
TRANSITION, INITIAL, EMISSION = stochastic(K, K), stochastic(K), stochastic(K, 4)
SEEN = np.array([1.0, np.nan, 3.0, 0.0, np.nan, 2.0])
SEEN_WEIGHTS = np.array([np.ones(K) if np.isnan(y) else EMISSION[:, int(y)] for y in SEEN])
LAW = dist.Categorical(INITIAL)


def emission(x):
    return dist.Categorical(jnp.array(EMISSION)[x])


def line(kernels, weights, law=INITIAL):
    n = len(weights)
    return Enumerated([-1, *range(n - 1)], [law, *kernels], weights)


def chain():
    graph = mjp.chain(mjp.MarkovChain(TRANSITION), range(6), initial=LAW).observe_each(emission, SEEN)
    return graph, [line([TRANSITION] * 5, SEEN_WEIGHTS)]


def chain_with_steps():
    matrices = stochastic(5, K, K)
    graph = mjp.chain(mjp.MarkovChain(matrices), range(6), initial=LAW).observe_each(emission, SEEN)
    return graph, [line(matrices, SEEN_WEIGHTS)]


def chain_with_covariates():
    x = RNG.normal(size=6)
    process = mjp.MarkovChain(lambda c: jax.nn.softmax(jnp.log(TRANSITION) * (1 + c["x"] ** 2), axis=1))
    graph = mjp.chain(process, range(6), initial=LAW, covariates={"x": x}).observe_each(emission, SEEN)
    powers = [TRANSITION ** (1 + value**2) for value in x[:-1]]
    return graph, [line([p / p.sum(axis=1, keepdims=True) for p in powers], SEEN_WEIGHTS)]


def several_chains():
    values = np.stack([SEEN, SEEN[::-1], np.full(6, np.nan)])
    graph = mjp.chain(mjp.MarkovChain(TRANSITION), range(6), initial=LAW).observe_each(emission, values)
    weights = [SEEN_WEIGHTS, SEEN_WEIGHTS[::-1], np.ones((6, K))]
    return graph, [line([TRANSITION] * 5, w) for w in weights]


def chain_of_known_states():
    graph = mjp.chain(mjp.MarkovChain(TRANSITION, list("abc")), range(6), initial="b")
    graph.observe_each(mjp.Exactly(), ["b", None, {"a", "c"}, "c", "a", None])
    weights = [one_hot(K, 1), np.ones(K), one_hot(K, 0, 2), one_hot(K, 2), one_hot(K, 0), np.ones(K)]
    return graph, [line([TRANSITION] * 5, weights, law=one_hot(K, 1))]


def several_likelihoods():
    rate, width = np.array([1.0, 2.5, 6.0]), np.array([1.0, 2.0, 4.0])
    graph = mjp.chain(mjp.MarkovChain(TRANSITION), range(4), initial=LAW)
    graph.observe_each(lambda x: dist.Poisson(rate[x]), [1, 4, 2, 0])
    graph.observe_each(lambda x: dist.Uniform(0.0, jnp.array(width)[x]), [0.5, 1.5, 3.0, np.nan])
    graph.observe_each(lambda x: dist.Normal(x, jnp.ones(2)), [[0, 1], [2, 2], [1, np.nan], [0.5, 0.1]])
    states = np.arange(K)
    weights = poisson.pmf(np.array([1, 4, 2, 0])[:, None], rate)
    uniform = np.array([0.5, 1.5, 3.0])[:, None]
    weights[:3] *= (uniform <= width) / width
    for t, pair in ((0, [0, 1]), (1, [2, 2]), (3, [0.5, 0.1])):
        weights[t] *= norm.pdf(pair[0], states) * norm.pdf(pair[1], states)
    weights[2] *= norm.pdf(1, states)  # the other entry is missing
    return graph, [line([TRANSITION] * 3, weights)]


# Chains in continuous time

TIMES = np.array([0.0, 0.4, 1.1, 1.3, 2.6])
RATES = random_rates(K)
Q = generator(RATES)
OFF = Q - np.diag(np.diag(Q))


def jump_chain():
    graph = mjp.chain(mjp.MarkovJump(RATES, list("abd")), TIMES, initial=LAW)
    graph.observe_each(mjp.Exactly(entry="d"), [None, "b", {"a", "b"}, None, "d"])
    kernels = [expm(Q * t) for t in np.diff(TIMES)]
    kernels[-1] = kernels[-1] @ OFF
    weights = [np.ones(K), one_hot(K, 1), one_hot(K, 0, 1), np.ones(K), one_hot(K, 2)]
    return graph, [line(kernels, weights)]


def exact_transitions():
    graph = mjp.chain(mjp.MarkovJump(RATES, list("abd")), TIMES, initial=LAW)
    graph.observe_each(mjp.Exactly(transitions=True), ["a", "a", "b", {"a", "d"}, "d"])
    kernels = [np.diag(np.exp(np.diag(Q) * t)) @ (np.eye(K) + OFF) for t in np.diff(TIMES)]
    weights = [one_hot(K, 0), one_hot(K, 0), one_hot(K, 1), one_hot(K, 0, 2), one_hot(K, 2)]
    return graph, [line(kernels, weights)]


# Trees

TREES = {
    "balanced": "((a:0.3,b:0.5)i:0.2,(c:0.1,d:0.7)j:0.4)r;",
    "caterpillar": "((((a:0.2,b:0.3)i:0.1,c:0.5)j:0.6,d:0.2)k:0.3,e:0.4)r;",
    "star": "(a:0.1,b:0.2,c:0.3,d:0.4,e:0.5,f:0.6,g:0.7)r;",
    "polytomies": "((a:0.2,b:0.3,c:0.1)i:0.5,d:0.1,e:0.3,f:0.9)r;",
}


def tree(shape):
    graph = mjp.tree(TREES[shape], mjp.MarkovJump(RATES, list("xyz")), initial=LAW)
    tips = [leaf for leaf in graph.leaves if leaf != "b"]
    seen = {leaf: "xyz"[i % 3] for i, leaf in enumerate(tips)} | {"d": {"x", "z"}, "b": None}
    seen |= {"j": {"y", "z"}} if "j" in graph.ids else {}
    graph.observe_each(mjp.Exactly(), seen)
    weights = np.ones((graph.n_nodes, K))
    for name, value in seen.items():
        if value is not None:
            weights[graph.ids[name]] = one_hot(K, *("xyz".index(label) for label in value))
    return graph, [Enumerated(graph.parents(), branches(graph), weights)]


def branches(graph, speed=lambda name: 1.0):
    length = {child: edge["duration"] for _, child, edge in graph.nx.edges(data=True)}
    return [expm(Q * length[n] * speed(n)) if n in length else INITIAL for n in graph.names]


def tree_with_known_inner_nodes():
    graph = mjp.tree(TREES["balanced"], mjp.MarkovJump(RATES), initial=1)
    graph.observe_each(mjp.Exactly(), {"i": 0, "c": 2}).observe_each(
        lambda x: dist.Poisson(1.0 + x), {"a": 2, "d": 0, "j": None}
    )
    weights = np.ones((7, K))
    for name, weight in {
        "r": one_hot(K, 1),
        "i": one_hot(K, 0),
        "c": one_hot(K, 2),
        "a": poisson.pmf(2, 1.0 + np.arange(K)),
        "d": poisson.pmf(0, 1.0 + np.arange(K)),
    }.items():
        weights[graph.ids[name]] = weight
    kernels = [np.ones(K) if k.ndim == 1 else k for k in branches(graph)]
    return graph, [Enumerated(graph.parents(), kernels, weights)]


def forest():
    first, second = nx.DiGraph(), nx.DiGraph()
    first.add_weighted_edges_from([("r", "a", 0.4), ("r", "b", 0.6)], weight="length")
    second.add_weighted_edges_from([("s", "c", 0.3), ("c", "d", 0.2), ("c", "e", 0.9)], weight="length")
    process = mjp.MarkovJump(lambda c: jnp.array(RATES) * jnp.exp(c["speed"]), list("xyz"))
    speed = {"a": 0.1, "b": 0.1, "c": -0.5, "d": 0.3, "e": 0.0}
    graph = mjp.tree(nx.union(first, second), process, initial=LAW, covariates={"speed": speed})
    graph.observe_each(mjp.Misclassified(EMISSION, labels=list("0123")), {"a": "1", "d": "2", "e": "0"})
    weights = np.ones((graph.n_nodes, K))
    for name, outcome in {"a": 1, "d": 2, "e": 0}.items():
        weights[graph.ids[name]] = EMISSION[:, outcome]
    kernels = branches(graph, lambda name: np.exp(speed[name]))
    return graph, [Enumerated(graph.parents(), kernels, weights)]


def by_hand():
    jump, step = mjp.MarkovJump(RATES, range(K)), mjp.MarkovChain(TRANSITION)
    graph = mjp.Graph().root("x", LAW).root(("y", 0), 2)
    graph.edge("x", "u", jump, duration=0.7).edge("u", "v", step).edge("u", "w", jump, duration=0.2)
    graph.edge(("y", 0), "z", jump, duration=0.3).edge("z", "zz", step)
    graph.observe("v", emission, 3).observe("v", emission, 1).observe("w", mjp.Exactly(), 0)
    graph.observe("zz", emission, 2).observe("u", emission, None)
    branch = lambda t: expm(Q * t)
    kernels = [INITIAL, one_hot(K, 2), branch(0.7), TRANSITION, branch(0.2), branch(0.3), TRANSITION]
    weights = np.ones((7, K))
    weights[3], weights[4], weights[6] = EMISSION[:, 3] * EMISSION[:, 1], one_hot(K, 0), EMISSION[:, 2]
    return graph, [Enumerated([-1, -1, 0, 2, 2, 1, 5], kernels, weights)]


# Panels

PIECES = np.stack([random_rates(K), random_rates(K), random_rates(K)])
BREAKS = (0.5, 1.2)
SUBJECTS = {
    "A": ([0.0, 0.3, 1.4, 2.0], ["a", "a", None, "d"]),
    "B": ([0.1, 1.3, 1.5], ["b", {"a", "b"}, "a"]),
    "C": ([0.7, 0.9], ["a", "b"]),
    "D": ([0.2], ["b"]),
    "E": ([0.0, 2.5], ["b", "d"]),
}
EXACT = {"A": [0, 1, 0, 0], "B": [0, 0, 1], "C": [0, 0], "D": [0], "E": [0, 1]}
AGE = {"A": [0.1, -0.3, 0.5, 9.0], "B": [1.0, 0.2, 9.0], "C": [-0.4, 9.0], "D": [9.0], "E": [0.3, 9.0]}
ERRORS = np.array([[0.8, 0.2, 0.0], [0.1, 0.9, 0.0], [0.0, 0.0, 1.0]])


def flat(columns):
    return [value for column in columns for value in column]


def panel_of(subjects=None):
    subjects = subjects or SUBJECTS
    return mjp.Panel.from_arrays(
        [s for s, (times, _) in subjects.items() for _ in times],
        flat(times for times, _ in subjects.values()),
        flat(states for _, states in subjects.values()),
        {"exact": flat(EXACT[s] for s in subjects), "age": flat(AGE[s] for s in subjects)},
    )


def segment(generators, breaks, start, end, arrival):
    """Kernel from `start` to `end`: "snapshot", "entry" at `end`, or "exact" transition time at `end`."""
    cuts = [start, *(b for b in breaks if start < b < end), end]
    total = np.eye(K)
    for a, b in pairwise(cuts):
        q = generators[sum(a >= t for t in breaks)]
        total = total @ (np.diag(np.exp(np.diag(q) * (b - a))) if arrival == "exact" else expm(q * (b - a)))
    off = q - np.diag(np.diag(q))
    return {"snapshot": total, "entry": total @ off, "exact": total @ (np.eye(K) + off)}[arrival]


def panel_components(arrivals, weight, law=None, pieces=RATES[None], breaks=(), effect=0.0, subjects=None):
    """One chain per subject; without `law` the first state is the start and has no weight."""
    components = []
    for name, (times, states) in (subjects or SUBJECTS).items():
        start = one_hot(K, "abd".index(states[0])) if law is None else law
        weights = [weight(state) for state in states]
        weights[0] = np.ones(K) if law is None else weights[0]
        kernels = []
        for i in range(len(times) - 1):
            generators = [generator(p * np.exp(effect * AGE[name][i])) for p in pieces]
            arrival = arrivals(name, i + 1, states[i + 1])
            kernels.append(segment(generators, breaks, times[i], times[i + 1], arrival))
        components.append(line(kernels, weights, start))
    return components


def states_seen(value):
    return np.ones(K) if value is None else one_hot(K, *("abd".index(label) for label in value))


def snapshots(name, i, state):
    return "snapshot"


def deaths(name, i, state):
    return "entry" if state == "d" else "snapshot"


def mixed(name, i, state):
    return "exact" if EXACT[name][i] else deaths(name, i, state)


def panel_exact():
    graph = mjp.panel(mjp.MarkovJump(RATES, list("abd")), panel_of(), observe=mjp.Exactly())
    return graph, panel_components(snapshots, states_seen)


def panel_entry():
    graph = mjp.panel(mjp.MarkovJump(RATES, list("abd")), panel_of(), observe=mjp.Exactly(entry="d"))
    return graph, panel_components(deaths, states_seen)


def panel_mixed():
    observe = mjp.Exactly(entry=["d"], transitions="exact")
    graph = mjp.panel(mjp.MarkovJump(RATES, list("abd")), panel_of(), observe=observe, initial=LAW)
    return graph, panel_components(mixed, states_seen, INITIAL)


def panel_mixed_with_breaks():
    process = mjp.MarkovJump(PIECES, list("abd"), breaks=BREAKS)
    graph = mjp.panel(process, panel_of(), observe=mjp.Exactly(entry="d", transitions="exact"))
    return graph, panel_components(mixed, states_seen, pieces=PIECES, breaks=BREAKS)


def panel_covariates_with_breaks():
    process = mjp.MarkovJump(
        lambda c: jnp.array(PIECES) * jnp.exp(0.7 * c["age"]), list("abd"), breaks=BREAKS
    )
    graph = mjp.panel(process, panel_of(), observe=mjp.Exactly(entry="d"))
    return graph, panel_components(deaths, states_seen, pieces=PIECES, breaks=BREAKS, effect=0.7)


def panel_misclassified(initial):
    law = None if initial is None else INITIAL
    process, observe = mjp.MarkovJump(RATES, list("abd")), mjp.Misclassified(ERRORS, entry="d")
    graph = mjp.panel(process, panel_of(), observe=observe, initial=initial)

    def weight(state):
        if state is None:
            return np.ones(K)
        return sum(ERRORS[:, "abd".index(label)] for label in (state if isinstance(state, set) else [state]))

    return graph, panel_components(deaths, weight, law)


def panel_measured():
    values = {"A": [0.1, None, 2.2, 1.4], "B": [0.3, 1.5, 0.2], "C": [0.5, 2.5], "D": [1.5], "E": [0.2, 2.0]}
    subjects = {name: (SUBJECTS[name][0], column) for name, column in values.items()}
    process = mjp.MarkovJump(RATES)
    graph = mjp.panel(process, panel_of(subjects), observe=lambda x: dist.Normal(x, 0.7), initial=LAW)
    weight = lambda y: np.ones(K) if y is None else norm.pdf(y, np.arange(K), 0.7)
    return graph, panel_components(snapshots, weight, INITIAL, subjects=subjects)


def subject_effects():
    effects = RNG.normal(size=len(SUBJECTS))
    process = mjp.MarkovJump(
        lambda c: jnp.array(RATES) * jnp.exp(jnp.array(effects)[c["subject"]]), list("abd")
    )
    graph = mjp.panel(process, panel_of(), observe=mjp.Exactly())
    components = [
        panel_components(snapshots, states_seen, pieces=RATES[None] * np.exp(e), subjects={s: SUBJECTS[s]})[0]
        for s, e in zip(SUBJECTS, effects, strict=True)
    ]
    return graph, components


CASES = {
    "chain": chain,
    "chain, step-dependent": chain_with_steps,
    "chain, covariates": chain_with_covariates,
    "chains": several_chains,
    "chain, known and censored states": chain_of_known_states,
    "chain, several likelihoods": several_likelihoods,
    "jump chain": jump_chain,
    "jump chain, exact transitions": exact_transitions,
    **{f"tree, {shape}": lambda shape=shape: tree(shape) for shape in TREES},
    "tree, known inner nodes": tree_with_known_inner_nodes,
    "forest, covariates, misclassified": forest,
    "graph by hand": by_hand,
    "panel": panel_exact,
    "panel, entry": panel_entry,
    "panel, entry, exact transitions, initial law": panel_mixed,
    "panel, entry, exact transitions, breaks": panel_mixed_with_breaks,
    "panel, covariates, breaks": panel_covariates_with_breaks,
    "panel, misclassified": lambda: panel_misclassified(None),
    "panel, misclassified, initial law": lambda: panel_misclassified(LAW),
    "panel, measured": panel_measured,
    "panel, effects by subject": subject_effects,
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_and_draws_equal_enumeration(name):
    graph, components = CASES[name]()

    @jax.jit
    def run(keys):
        guided = mjp.condition(graph, max_jumps=4)
        drawn, log_weight = jax.vmap(guided.sample)(keys)
        return guided.log_evidence, drawn.values, log_weight

    evidence, values, log_weight = run(jax.random.split(jax.random.key(3), N_DRAWS))
    expected = np.array([component.log_evidence for component in components])
    assert evidence.shape == graph.batch_shape
    np.testing.assert_allclose(
        evidence, expected if graph.batch_shape else expected.sum(), rtol=0, atol=1e-10
    )
    assert log_weight.shape == (N_DRAWS, *graph.batch_shape)
    assert np.all(np.asarray(log_weight) == 0.0)
    marginals = np.concatenate([component.marginals for component in components])
    share = (np.asarray(values)[..., None] == np.arange(K)).mean(axis=0)
    error = np.sqrt(np.clip(marginals * (1 - marginals), 0.0, None) / N_DRAWS)
    np.testing.assert_array_less(np.abs(share - marginals), 4 * error + 1e-9)


def test_eager_and_compiled_are_the_same():
    graph, _ = chain()
    guided = mjp.condition(graph)
    assert guided.exact
    compiled = jax.jit(lambda: mjp.condition(graph))()
    np.testing.assert_allclose(compiled.log_evidence, guided.log_evidence, rtol=1e-13)
    path, log_weight = guided.sample(jax.random.key(0))
    again, _ = jax.jit(lambda g, key: g.sample(key))(compiled, jax.random.key(0))
    np.testing.assert_array_equal(path.values, again.values)
    assert log_weight == 0


@pytest.mark.parametrize("name", ["tree, balanced", "panel, entry, exact transitions, breaks"])
def test_a_draw_is_a_function_of_the_innovations(name):
    graph, _ = CASES[name]()
    guided = jax.jit(lambda: mjp.condition(graph, max_jumps=4))()
    z = {site: jnp.zeros(shape) for site, shape in guided.innovations.items()}
    path, log_weight = jax.jit(lambda g, z: g.push(z))(guided, z)
    assert path.values.shape == (graph.n_nodes,)
    assert log_weight.shape == graph.batch_shape


def scaled_panel(scale):
    process = mjp.MarkovJump(scale * jnp.array(PIECES), list("abd"), breaks=BREAKS)
    return mjp.panel(process, panel_of(), observe=mjp.Exactly(entry="d", transitions="exact"))


def scaled_tree(scale):
    graph = mjp.tree(
        TREES["polytomies"],
        mjp.MarkovJump(scale * jnp.array(RATES), list("xyz")),
        initial=dist.Categorical(INITIAL),
    )
    return graph.observe_each(mjp.Exactly(), {"a": "x", "b": "y", "f": {"x", "z"}})


def scaled_chain(scale):
    matrix = jax.nn.softmax(scale * jnp.log(jnp.array(TRANSITION)), axis=1)
    return mjp.chain(mjp.MarkovChain(matrix), range(6), initial=dist.Categorical(INITIAL)).observe_each(
        emission, SEEN
    )


@pytest.mark.parametrize("build", [scaled_panel, scaled_tree, scaled_chain])
def test_parameters_can_be_mapped_and_differentiated(build):
    total = lambda scale: mjp.condition(build(scale)).log_evidence.sum()
    scales = jnp.array([0.5, 1.0, 1.0 + 1e-5, 1.0 - 1e-5])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(total)))(scales)
    assert float(values[1]) == pytest.approx(float(jax.jit(total)(1.0)), abs=1e-11)
    assert float(gradients[1]) == pytest.approx(float(values[2] - values[3]) / 2e-5, rel=1e-7)


@pytest.mark.parametrize("build", [scaled_panel, scaled_tree, scaled_chain])
def test_single_precision(build):
    double = jax.jit(lambda scale: mjp.condition(build(scale)).log_evidence)(1.0)
    with jax.enable_x64(False):
        single = jax.jit(lambda scale: mjp.condition(build(scale)).log_evidence)(1.0)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=1e-4)
