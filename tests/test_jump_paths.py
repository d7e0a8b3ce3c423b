"""Posterior jump paths: their moments given both ends, their consistency, and how they are read."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy.linalg import expm

import mjp

pytestmark = pytest.mark.usefixtures("quick_compilation")

N_DRAWS = 6000
STATES = list("abd")
K = 3
# d is reached from a only through b, and left for b only
RATES = np.array([[[0, 1.1, 0], [0.6, 0, 0.7], [0, 0.5, 0]], [[0, 0.4, 0], [1.3, 0, 0.2], [0, 0.9, 0]]])
BREAK = 0.6
# subject: start, end, states at both ends, how the edge ends
EDGES = {
    "snapshot": (0.0, 1.7, "a", "d", "snapshot"),
    "entry": (0.1, 1.9, "a", "d", "entry"),
    "exact": (0.3, 1.1, "a", "b", "exact"),
    "constant": (0.2, 0.9, "b", "b", "exact"),
    "within": (0.1, 0.5, "b", "a", "snapshot"),
}


def graph_of(breaks):
    process = mjp.MarkovJump(RATES if breaks else RATES[0], STATES, breaks=[BREAK] if breaks else ())
    exact = [kind == "exact" for *_, kind in EDGES.values() for _ in range(2)]
    panel = mjp.Panel.from_arrays(
        [subject for subject in EDGES for _ in range(2)],
        [time for start, end, *_ in EDGES.values() for time in (start, end)],
        [state for _, _, a, b, _ in EDGES.values() for state in (a, b)],
        {"exact": exact},
    )
    return mjp.panel(process, panel, observe=mjp.Exactly(transitions="exact"))


def entry_graph(breaks):
    process = mjp.MarkovJump(RATES if breaks else RATES[0], STATES, breaks=[BREAK] if breaks else ())
    start, end, a, b, _ = EDGES["entry"]
    graph = mjp.chain(process, [start, end], initial=a)
    return graph.observe_each(mjp.Exactly(entry=b), [a, b])


@cache
def draws(kind, breaks):
    """All draws of the graph with the edge of this kind, and the path on that edge."""
    graph = entry_graph(breaks) if kind == "entry" else graph_of(breaks)
    ends = (0, 1) if kind == "entry" else ((kind, 0), (kind, 1))
    trajectory = _draws("entry" if kind == "entry" else "panel", breaks)
    assert trajectory.values.shape == (N_DRAWS, graph.n_nodes)
    return trajectory, trajectory.edge(*ends), ends


@cache
def _draws(which, breaks):
    graph = entry_graph(breaks) if which == "entry" else graph_of(breaks)
    guided = jax.jit(lambda: mjp.condition(graph, max_jumps=24))()
    return jax.jit(jax.vmap(lambda key: guided.sample(key)[0]))(jax.random.split(jax.random.key(11), N_DRAWS))


def generator(rates):
    return rates - np.diag(rates.sum(axis=1))


def van_loan(kind, breaks):
    """Expected dwell times (K,) and jump counts (K, K) given both ends, by matrix exponentials."""
    start, end, a, b, arrival = EDGES[kind]
    a, b = STATES.index(a), STATES.index(b)
    cuts = [start, BREAK, end] if breaks and start < BREAK < end else [start, end]
    generators = [generator(RATES[int(breaks and t >= BREAK)]) for t in cuts[:-1]]
    lengths = np.diff(cuts)
    off = generators[-1] - np.diag(np.diag(generators[-1]))
    kernels = [expm(q * t) for q, t in zip(generators, lengths, strict=True)]
    final = off[:, b] if arrival == "entry" else np.eye(K)[b]
    density = np.linalg.multi_dot([np.eye(K), *kernels, final[:, None]])[a, 0]
    dwell, jumps = np.zeros(K), np.zeros((K, K))
    for piece, (q, t) in enumerate(zip(generators, lengths, strict=True)):
        before = np.linalg.multi_dot([np.eye(K), np.eye(K), *kernels[:piece]])[a]
        after = np.linalg.multi_dot([np.eye(K), *kernels[piece + 1 :], final[:, None]])[:, 0]
        for i in range(K):
            for j in range(K):
                unit = np.zeros((K, K))
                unit[i, j] = 1.0
                block = expm(np.block([[q, unit], [np.zeros((K, K)), q]]) * t)[:K, K:]
                integral = before @ block @ after / density
                if i == j:
                    dwell[i] += integral
                else:
                    jumps[i, j] += q[i, j] * integral
    if arrival == "entry":
        last = np.linalg.multi_dot([np.eye(K), np.eye(K), *kernels])[a] * off[:, b]
        jumps[:, b] += last / density
    return dwell, jumps


def moments(path):
    """Dwell times (n, K) and jump counts (n, K, K) of each draw."""
    times, states = np.asarray(path.times), np.asarray(path.states)
    spans = np.diff(np.append(times, np.asarray(path.end)[:, None], axis=1), axis=1)
    dwell = np.stack([np.sum(spans * (states == k), axis=1) for k in range(K)], axis=1)
    pairs = [[(states[:, :-1] == i) & (states[:, 1:] == j) for j in range(K)] for i in range(K)]
    jumps = np.moveaxis(np.sum(np.asarray(pairs), axis=-1), -1, 0) * (1 - np.eye(K))
    return dwell, jumps


KINDS = pytest.mark.parametrize("kind", EDGES)
WITH_BREAKS = pytest.mark.parametrize("breaks", [False, True], ids=["constant rates", "breaks"])


@KINDS
@pytest.mark.parametrize(
    "breaks", [pytest.param(False, marks=pytest.mark.slow), True], ids=["constant rates", "breaks"]
)
def test_moments_equal_van_loan_integrals(kind, breaks):
    _, path, _ = draws(kind, breaks)
    if EDGES[kind][-1] == "exact":
        start, end, a, b, _ = EDGES[kind]
        expected = (end - start) * np.eye(K)[STATES.index(a)], np.zeros((K, K))
        expected[1][STATES.index(a), STATES.index(b)] = float(a != b)
    else:
        expected = van_loan(kind, breaks)
    for found, wanted in zip(moments(path), expected, strict=True):
        error = found.std(axis=0) / np.sqrt(N_DRAWS)
        np.testing.assert_array_less(np.abs(found.mean(axis=0) - wanted), 4 * error + 1e-9)
    np.testing.assert_array_equal(path.n_jumps, moments(path)[1].sum(axis=(1, 2)))


@KINDS
@WITH_BREAKS
def test_paths_are_consistent(kind, breaks):
    trajectory, path, (parent, child) = draws(kind, breaks)
    start, end, *_ = EDGES[kind]
    times, states = np.asarray(path.times), np.asarray(path.states)
    np.testing.assert_array_equal(states[:, 0], trajectory[parent])
    np.testing.assert_array_equal(states[:, -1], trajectory[child])
    assert set(trajectory.label(child).tolist()) == {EDGES[kind][3]}
    np.testing.assert_allclose(path.end, end)
    np.testing.assert_allclose(times[:, 0], start)
    assert np.all(np.diff(times, axis=1) >= 0)
    assert times.max() <= end + 1e-12
    changed = states[:, 1:] != states[:, :-1]
    allowed = RATES.sum(axis=0) > 0
    assert np.all(allowed[states[:, :-1][changed], states[:, 1:][changed]])
    assert np.all(np.asarray(trajectory.overflow) == 0)
    np.testing.assert_array_equal(path.at(jnp.array([start, end]))[:, 0], trajectory[parent])
    np.testing.assert_array_equal(path.at(jnp.array([start, end]))[:, 1], trajectory[child])


def test_states_along_a_path():
    _, path, _ = draws("snapshot", True)
    times, states = np.asarray(path.times), np.asarray(path.states)
    for t in (0.05, 0.6, 1.3):
        expected = [
            row[np.searchsorted(when, t, side="right") - 1] for when, row in zip(times, states, strict=True)
        ]
        np.testing.assert_array_equal(path.at(t), expected)


@pytest.mark.parametrize("max_jumps", [1, 3, 200])
def test_paths_that_do_not_fit_are_counted(max_jumps):
    # between a and b the number of jumps is odd, so that one more than the buffer is impossible
    rate, duration = 2.0, 1.5
    flip = mjp.MarkovJump({("a", "b"): rate, ("b", "a"): rate})
    graph = mjp.chain(flip, [0.0, duration], initial="a").observe_each(mjp.Exactly(), [None, "b"])
    guided = jax.jit(lambda: mjp.condition(graph, max_jumps=max_jumps))()

    @jax.jit
    def run(keys):
        paths = jax.vmap(lambda key: guided.sample(key)[0])(keys)
        return paths.overflow, paths.edge(0, 1).n_jumps

    overflow, n_jumps = run(jax.random.split(jax.random.key(2), N_DRAWS))
    odd = np.arange(1, 60, 2)
    law = np.exp(odd * np.log(rate * duration) - np.cumsum(np.log(np.arange(1, 61)))[odd - 1])
    law /= law.sum()
    beyond = law[odd > max_jumps].sum()
    assert np.mean(overflow) == pytest.approx(beyond, abs=4 * np.sqrt(beyond * (1 - beyond) / N_DRAWS) + 1e-9)
    kept = np.asarray(n_jumps)[np.asarray(overflow) == 0]
    assert np.all((kept % 2 == 1) & (kept <= max_jumps))
    assert np.mean(kept == 1) == pytest.approx(law[0] / law[odd <= max_jumps].sum(), abs=4 / np.sqrt(N_DRAWS))


@pytest.mark.slow
def test_a_chain_on_a_grid_of_times():
    process = mjp.MarkovJump(RATES, STATES, breaks=[BREAK])
    graph = mjp.chain(process, [0.0, 0.4, 1.0], initial="a").observe_each(mjp.Exactly(), [None, None, "d"])
    guided = jax.jit(lambda: mjp.condition(graph, max_jumps=24))()
    paths = jax.jit(jax.vmap(lambda key: guided.sample(key)[0]))(jax.random.split(jax.random.key(0), 50))
    grid = jnp.array([-0.1, 0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0, 1.1])
    states = np.asarray(paths.at(grid))
    assert states.shape == (50, len(grid))
    assert np.all(states[:, [0, -1]] == -1)
    for node, column in ((0, 1), (1, 3), (2, 7)):
        np.testing.assert_array_equal(states[:, column], paths[node])
    np.testing.assert_array_equal(states[:, 2], paths.edge(0, 1).at(0.2))
    np.testing.assert_array_equal(states[:, 4:7], paths.edge(1, 2).at(grid[4:7]))
    np.testing.assert_array_equal(paths.at(0.5), states[:, 4])


def test_a_panel_on_a_grid_of_times():
    trajectory, _, _ = draws("snapshot", True)
    grid = jnp.array([0.05, 0.4, 0.7, 1.5, 1.8])
    states = np.asarray(trajectory.at(grid))
    assert states.shape == (N_DRAWS, len(EDGES) - 0, len(grid))
    for i, (kind, (start, end, *_)) in enumerate(EDGES.items()):
        path = trajectory.edge((kind, 0), (kind, 1))
        for column, time in enumerate(np.asarray(grid)):
            inside = start <= time <= end
            expected = path.at(time) if inside else np.full(N_DRAWS, -1)
            np.testing.assert_array_equal(states[:, i, column], expected)


def test_discrete_time_holds_the_state_until_the_next_node():
    graph = mjp.chain(mjp.MarkovChain(np.full((2, 2), 0.5), ["x", "y"]), [0, 1, 2], initial="x")
    graph.observe_each(mjp.Exactly(), [None, "y", "x"])
    path = jax.jit(lambda key: mjp.condition(graph).sample(key)[0])(jax.random.key(0))
    np.testing.assert_array_equal(
        path.at(jnp.array([-1.0, 0.0, 0.5, 1.0, 1.9, 2.0, 2.1])), [-1, 0, 0, 1, 1, 0, -1]
    )
    assert [path.label(node) for node in range(3)] == ["x", "y", "x"]
    assert int(path.overflow) == 0
    with pytest.raises(KeyError, match="0 -> 1 is one step"):
        path.edge(0, 1)


def test_nodes_as_a_labelled_array():
    trajectory, _, _ = draws("snapshot", False)
    array = trajectory.to_xarray()
    assert array.dims == ("draw", "node")
    assert array.shape == trajectory.values.shape
    assert array.sel(node="('snapshot', 1)").values.tolist() == ["d"] * N_DRAWS
    assert trajectory.label(("exact", 0)).tolist() == ["a"] * N_DRAWS


def test_draws_can_be_stacked_and_read():
    graph = mjp.tree(
        "((a:1,b:2)i:0.5,c:1)r;", mjp.MarkovJump(RATES[0], STATES), initial=dist.Categorical(np.ones(3) / 3)
    )
    graph.observe_each(mjp.Exactly(), {"a": "a", "b": "d"})
    guided = jax.jit(lambda: mjp.condition(graph, max_jumps=24))()
    draw = jax.jit(lambda key: guided.sample(key)[0])
    paths = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(draw(jax.random.key(i)) for i in range(3)))
    assert paths.edge("i", "a").at(1.0).shape == (3,)
    assert paths.label("b").tolist() == ["d"] * 3
    with pytest.raises(KeyError, match="unknown node 'zz'"):
        paths["zz"]
    with pytest.raises(KeyError, match="no edge 'r' -> 'a'"):
        paths.edge("r", "a")
    with pytest.raises(TypeError, match="chains and panels"):
        paths.at(0.5)
