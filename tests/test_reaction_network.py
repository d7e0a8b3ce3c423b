"""Reaction networks: reading them, their laws of conservation, truncation, and simulation in law."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.extend.random import threefry_2x32
from scipy.linalg import expm
from scipy.special import comb
from scipy.stats import binom, poisson

import mjp
from mjp.inference.threefry import exponential, threefry, uniform
from mjp.inference.xoshiro import advance, seeded
from mjp.processes.reaction_strings import parse_reaction

pytestmark = pytest.mark.usefixtures("quick_compilation")

N = 20_000
ENZYME = [("S + E -> ES", 5.0), ("ES -> S + E", 5.0), ("ES -> E + P", 3.0)]
SIR = [("S + I -> 2 I", 0.0025), ("I -> R", 0.4)]


@pytest.mark.parametrize(
    ("text", "reactants", "products"),
    [
        ("S + I -> 2 I", {"S": 1, "I": 1}, {"I": 2}),
        ("2I->I", {"I": 2}, {"I": 1}),
        ("3*A_1 + b -> c", {"A_1": 3, "b": 1}, {"c": 1}),
        ("0 -> X", {}, {"X": 1}),
        (" -> X", {}, {"X": 1}),
        ("X -> ", {"X": 1}, {}),
        ("X -> ∅", {"X": 1}, {}),
        ("X + X -> Y", {"X": 2}, {"Y": 1}),
    ],
)
def test_reactions_are_read(text, reactants, products):
    assert parse_reaction(text) == (reactants, products)


def test_reactions_in_words_can_be_read_again():
    for text in ("S + I -> 2 I", "0 -> X", "X -> 0"):
        assert str(parse_reaction(text)) == text


def test_a_network_knows_its_arrays():
    network = mjp.ReactionNetwork(SIR)
    assert network.species == ("S", "I", "R")
    assert network.reactions == ("S + I -> 2 I", "I -> R")
    np.testing.assert_array_equal(network.stoichiometry, [[-1, 1, 0], [0, -1, 1]])
    assert network.state.shape == (3,)
    by_arrays = mjp.ReactionNetwork.from_stoichiometry(
        [[-1, 1, 0], [0, -1, 1]], [0.0025, 0.4], ["S", "I", "R"], reactants=[[1, 1, 0], [0, 1, 0]]
    )
    assert by_arrays.reactions == network.reactions
    state = jnp.array([50, 7, 3])
    np.testing.assert_allclose(by_arrays.propensities(0.0, state), [0.0025 * 50 * 7, 0.4 * 7])
    np.testing.assert_allclose(network.propensities(0.0, state), [0.0025 * 50 * 7, 0.4 * 7])


def test_mass_action_counts_the_ways_to_choose_reactants():
    network = mjp.ReactionNetwork([("2 X -> 0", 3.0), ("3 X + Y -> Y", 2.0), ("0 -> X", 5.0)], ["X", "Y"])
    for x, y in ((0, 4), (1, 1), (2, 0), (7, 3)):
        expected = [3.0 * comb(x, 2), 2.0 * comb(x, 3) * y, 5.0]
        np.testing.assert_allclose(network.propensities(0.0, jnp.array([x, y])), expected)


@pytest.mark.parametrize(
    ("reactions", "laws"),
    [
        (["S + E -> ES", "ES -> S + E", "ES -> E + P"], [[0, 1, 1, 0], [1, 0, 1, 1]]),
        (["S + I -> 2 I", "I -> R"], [[1, 1, 1]]),
        (["2 A -> B"], [[1, 2]]),
        (["0 -> A + B", "A + B -> 0"], [[1, -1]]),
        (["X -> 2 X", "X -> 0"], []),
        (["A -> B", "C -> 2 D"], [[1, 1, 0, 0], [0, 0, 2, 1]]),
    ],
)
def test_conservation_laws(reactions, laws):
    network = mjp.ReactionNetwork([(text, 1.0) for text in reactions])
    found = network.conservation_laws
    assert found.shape == (len(laws), network.n_species)
    assert not np.any(network.stoichiometry @ found.T)
    assert sorted(map(abs_tuple, found.tolist())) == sorted(map(abs_tuple, laws))


def abs_tuple(law):
    sign = -1 if next(w for w in law if w) < 0 else 1
    return tuple(sign * w for w in law)


def test_threefry_is_the_generator_of_jax():
    rng = np.random.default_rng(0)
    key, counters = (
        rng.integers(2**32, size=2, dtype=np.uint32),
        rng.integers(2**32, size=(2, 64), dtype=np.uint32),
    )
    expected = threefry_2x32(jnp.asarray(key), jnp.asarray(counters.reshape(-1)))
    words = threefry(tuple(jnp.asarray(key)), *jnp.asarray(counters))
    np.testing.assert_array_equal(np.concatenate(words), expected)


def test_xoshiro_is_that_of_its_authors():
    """Ten words from the state (1, 2, 3, 4), computed with integers of any length; the first by hand."""
    rotated = lambda word, places: (word << places | word >> 32 - places) % 2**32
    a, b, c, d = 1, 2, 3, 4
    state = tuple(jnp.array([word], jnp.uint32) for word in (a, b, c, d))
    found, expected = [], []
    for _ in range(10):
        bits, state = advance(state)
        found.append(int(bits[0]))
        expected.append((rotated((a + d) % 2**32, 7) + a) % 2**32)
        shifted = b << 9 & 0xFFFFFFFF
        c, d = c ^ a, d ^ b
        b, a = b ^ c, a ^ d
        c, d = c ^ shifted, rotated(d, 11)
    assert found == expected
    assert found[0] == (5 << 7) + 1


def test_generators_with_different_keys_are_apart():
    keys = jnp.arange(1000, dtype=jnp.uint32)
    state, words = seeded((keys, jnp.zeros_like(keys))), []
    for _ in range(40):
        bits, state = advance(state)
        words.append(np.asarray(bits) / 2.0**32)
    words = np.array(words)
    assert len(np.unique(words)) > words.size - 5
    assert abs(words.mean() - 0.5) < 4 / np.sqrt(12 * words.size)
    neighbours = [np.corrcoef(words[:, 1:].ravel(), words[:, :-1].ravel())[0, 1]]
    neighbours.append(np.corrcoef(words[1:].ravel(), words[:-1].ravel())[0, 1])
    assert np.max(np.abs(neighbours)) < 4 / np.sqrt(words.size)


def test_uniforms_and_exponentials_stay_in_their_range():
    extreme = jnp.array([0, 1, 2**32 - 1], jnp.uint32)
    assert np.all((uniform(extreme) >= 0) & (uniform(extreme) < 1))
    assert np.all((exponential(extreme) >= 0) & (exponential(extreme) < 23))


# ------------------------------------------------------------------------------------------- laws


def ends(network, initial, duration=1.0, seed=0, n=N, **options):
    graph = mjp.chain(network, [0.0, duration], initial=initial)
    return np.asarray(mjp.simulate(graph, jax.random.key(seed), replicates=n, paths=False, **options)[1])


def agree(counts, probabilities, least=20):
    """Every frequency lies within four standard errors of its probability."""
    frequency = np.bincount(counts, minlength=len(probabilities))[: len(probabilities)] / len(counts)
    error = np.sqrt(probabilities * (1 - probabilities) / len(counts))
    common = probabilities * len(counts) > least
    assert probabilities[common].sum() > 0.95
    np.testing.assert_array_less(np.abs(frequency - probabilities)[common], 4 * error[common])


@pytest.mark.parametrize("x64", [True, False])
def test_death_is_binomial(x64):
    with jax.enable_x64(x64):
        counts = ends(mjp.ReactionNetwork([("X -> 0", 0.5)]), [50])
    agree(counts[:, 0], binom.pmf(np.arange(51), 50, np.exp(-0.5)))


@pytest.mark.parametrize("x64", [True, False])
def test_immigration_and_death_are_binomial_plus_poisson(x64):
    with jax.enable_x64(x64):
        counts = ends(mjp.ReactionNetwork([("0 -> X", 6.0), ("X -> 0", 0.8)]), {"X": 10}, 1.5)
    kept, mean = np.exp(-0.8 * 1.5), 6.0 * (1 - np.exp(-0.8 * 1.5)) / 0.8
    agree(counts[:, 0], np.convolve(binom.pmf(np.arange(11), 10, kept), poisson.pmf(np.arange(40), mean)))


def birth_death(m, n, birth, death, t):
    """P(n | m) of the linear birth-death process."""
    e = np.exp((birth - death) * t)
    alpha, beta = death * (e - 1) / (birth * e - death), birth * (e - 1) / (birth * e - death)
    return sum(
        comb(m, j) * comb(m + n - j - 1, m - 1) * alpha ** (m - j) * beta ** (n - j) * (1 - alpha - beta) ** j
        for j in range(min(m, n) + 1)
    )


def test_linear_birth_and_death():
    counts = ends(mjp.ReactionNetwork([("X -> 2 X", 1.1), ("X -> 0", 0.7)]), [4], 0.9)
    agree(counts[:, 0], np.array([birth_death(4, n, 1.1, 0.7, 0.9) for n in range(60)]))


def test_truncation_gives_the_law_of_birth_and_death():
    network = mjp.ReactionNetwork([("X -> 2 X", 1.1), ("X -> 0", 0.7)])
    process, states = network.truncated([4], bounds={"X": 80})
    assert process.states[-1] == "outside"
    law = expm(np.asarray(process.generator({})[0]) * 0.9)[process.index((4,))]
    assert law[-1] < 1e-9
    for state, probability in zip(states[:, 0].tolist(), law, strict=False):
        assert abs(probability - birth_death(4, state, 1.1, 0.7, 0.9)) < 1e-8


@cache
def enzyme():
    network = mjp.ReactionNetwork(ENZYME, ["S", "E", "ES", "P"])
    return network, *network.truncated({"S": 12, "E": 10, "ES": 10, "P": 10})


def test_enzyme_kinetics_against_its_273_states():
    network, process, states = enzyme()
    assert len(states) == len(process.states) == 273
    law = expm(np.asarray(process.generator({})[0]))[0]
    counts = ends(network, [12, 10, 10, 10], seed=1)
    laws = network.conservation_laws
    assert np.all(counts @ laws.T == states[0] @ laws.T)
    for species in (0, 2):
        marginal = np.bincount(states[:, species], weights=law, minlength=60)
        agree(counts[:, species], marginal)


def test_a_total_bounds_the_states():
    network = mjp.ReactionNetwork([("0 -> X", 1.0), ("0 -> Y", 1.0), ("X + Y -> 0", 1.0)])
    found = network.reachable([0, 0], total=3)
    assert len(found.states) == 10
    assert found.states.sum(axis=1).max() == 3
    assert np.all(found.states[found.source[found.target == 10]].sum(axis=1) == 3)


def test_rates_that_change_at_breaks():
    rates = np.array([0.3, 2.0, 0.7])
    network = mjp.ReactionNetwork([("X -> 0", rates)], breaks=[0.4, 0.9])
    survival = np.exp(-(0.4 * 0.3 + 0.5 * 2.0 + 0.3 * 0.7))
    agree(ends(network, [30], 1.2)[:, 0], binom.pmf(np.arange(31), 30, survival))
    graph = mjp.chain(network, [0.1, 0.5, 1.2], initial=[30])
    draws = mjp.simulate(graph, jax.random.key(2), replicates=N)
    kept = np.exp(-(0.3 * 0.3 + 0.1 * 2.0))
    agree(np.asarray(draws[1])[:, 0], binom.pmf(np.arange(31), 30, kept))
    path = draws.edge(0, 1)
    first = binom.pmf(np.arange(31), 30, np.exp(-0.3 * 0.3))
    agree(np.asarray(path.at(0.4))[:, 0], first)
    np.testing.assert_array_equal(path.at(0.5), draws[1])
    assert np.all(np.diff(path.times) >= 0)


def test_propensities_that_read_time_are_those_of_the_pieces():
    breaks = [0.0, 0.4, 0.9]
    custom = mjp.ReactionNetwork([("X -> 0", lambda t, x: (0.3 + t) * x["X"])], breaks=breaks)
    given = mjp.ReactionNetwork([("X -> 0", [0.3, 0.3, 0.7, 1.2])], breaks=breaks)
    for t in (-1.0, 0.0, 0.3, 0.4, 0.8, 0.9, 3.0):
        np.testing.assert_allclose(
            custom.propensities(t, jnp.array([5])), given.propensities(t, jnp.array([5]))
        )
    np.testing.assert_array_equal(ends(custom, [30], n=500), ends(given, [30], n=500))


def test_custom_propensities_read_species_by_name_or_position():
    by_name = mjp.ReactionNetwork([("X -> 0", lambda x: 0.5 * x["X"]), ("0 -> X", lambda x: 2 / (1 + x[0]))])
    np.testing.assert_allclose(by_name.propensities(0.0, jnp.array([3])), [1.5, 0.5])
    process, states = by_name.truncated([3], bounds=[60])
    law = expm(np.asarray(process.generator({})[0]))[0]
    agree(ends(by_name, [3])[:, 0], np.bincount(states[:, 0], weights=law[:-1], minlength=61))


def test_catalysed_custom_reactions_by_arrays():
    network = mjp.ReactionNetwork.from_stoichiometry(
        [[-1, 1], [0, -1]], [lambda x: 0.3 * x["S"] * x["I"], lambda x: x["I"]], ["S", "I"]
    )
    plain = mjp.ReactionNetwork([("S + I -> 2 I", 0.3), ("I -> 0", 1.0)])
    np.testing.assert_array_equal(ends(network, [9, 1], n=200), ends(plain, [9, 1], n=200))


# ------------------------------------------------------------------------------ paths and graphs


@pytest.mark.parametrize("x64", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_stored_paths_end_where_the_end_states_are(x64):
    with jax.enable_x64(x64):
        network = mjp.ReactionNetwork(SIR)
        graph = mjp.chain(network, [0.0, 2.0, 5.0], initial=(300, 3, 0))
        key = jax.random.key(3)
        stored = mjp.simulate(graph, key, replicates=50)
        plain = mjp.simulate(graph, key, replicates=50, paths=False)
        np.testing.assert_array_equal(stored.values, plain.values)
        path = stored.edge(1, 2)
        np.testing.assert_array_equal(path.values[:, 0], stored[1])
        np.testing.assert_array_equal(path.values[:, -1], stored[2])
        np.testing.assert_array_equal(path.fired[:, 1], stored[2][:, 2] - stored[1][:, 2])
        assert np.all(np.diff(path.times) >= 0)
        assert np.all(path.times >= 2.0)
        assert np.all(path.times <= 5.0)
        with pytest.raises(ValueError, match="no paths were stored"):
            plain.edge(0, 1)


def test_waiting_times_are_exponential():
    graph = mjp.chain(mjp.ReactionNetwork([("0 -> X", 2.5)]), [1.0, 9.0], initial=[0])
    path = mjp.simulate(graph, jax.random.key(4), replicates=4000).edge(0, 1)
    first = np.asarray(path.times[:, 1]) - 1.0
    for t in (0.05, 0.2, 0.6, 1.5):
        p = 1 - np.exp(-2.5 * t)
        assert abs(np.mean(first < t) - p) < 4 * np.sqrt(p * (1 - p) / 4000)
    at = np.asarray(path.at([1.0, 5.0]))[..., 0]
    assert np.all(at[:, 0] == 0)
    agree(at[:, 1], poisson.pmf(np.arange(40), 10.0))


def test_a_short_buffer_is_replaced_outside_of_compilation_and_counted_inside():
    graph = mjp.chain(mjp.ReactionNetwork([("X -> 0", 0.5)]), [0.0, 1.0, 2.0], initial=[50])
    key = jax.random.key(5)
    long, short = mjp.simulate(graph, key), mjp.simulate(graph, key, max_events=2)
    n = int(long.edge(0, 1).n_events)
    assert n > 2
    np.testing.assert_array_equal(long.values, short.values)
    np.testing.assert_array_equal(long.edge(0, 1).times[: n + 1], short.edge(0, 1).times[: n + 1])
    assert int(short.overflow) == 0
    inside = jax.jit(lambda k: mjp.simulate(graph, k, max_events=2))(key)
    assert int(inside.overflow) == 2
    np.testing.assert_array_equal(inside.values, long.values)
    np.testing.assert_array_equal(inside.paths.n_events, long.paths.n_events)


def test_draws_by_vmap_and_rates_that_are_traced():
    def end(rate, key):
        network = mjp.ReactionNetwork([("X -> 0", rate)])
        return mjp.simulate(mjp.chain(network, [0.0, 1.0], initial=[20]), key, max_events=20)

    rates = jnp.repeat(jnp.array([0.2, 2.0]), 3000)
    draws = jax.jit(jax.vmap(end))(rates, jax.random.split(jax.random.key(6), 6000))
    counts = np.asarray(draws[1])[:, 0]
    assert not np.any(draws.overflow)
    agree(counts[:3000], binom.pmf(np.arange(21), 20, np.exp(-0.2)))
    agree(counts[3000:], binom.pmf(np.arange(21), 20, np.exp(-2.0)))
    np.testing.assert_array_equal(draws.edge(0, 1).values[:, -1, 0], counts)


def test_propensities_may_close_over_what_is_traced():
    def end(rate, key):
        network = mjp.ReactionNetwork([("X -> 0", lambda x: rate * x["X"])])
        return mjp.simulate(mjp.chain(network, [0.0, 1.0], initial=[20]), key, paths=False)[1][0]

    rates = jnp.repeat(jnp.array([0.2, 2.0]), 3000)
    counts = np.asarray(jax.jit(jax.vmap(end))(rates, jax.random.split(jax.random.key(13), 6000)))
    agree(counts[:3000], binom.pmf(np.arange(21), 20, np.exp(-0.2)))
    agree(counts[3000:], binom.pmf(np.arange(21), 20, np.exp(-2.0)))


def test_times_of_a_calendar_in_float32():
    with jax.enable_x64(False):
        times = np.array([1900.0, 1900.7, 1901.3, 1902.1])
        draws = mjp.simulate(
            mjp.chain(mjp.ReactionNetwork([("0 -> X", 40.0)]), times, initial=[0]), jax.random.key(14)
        )
        assert draws.values.dtype == jnp.int32
        assert np.all(np.diff(draws.path().times) >= 0)
        np.testing.assert_array_equal(draws.at(times), draws.values)
        assert np.all(draws.at([1901, 1902])[:, 0] > 0)


def test_a_tree_of_two_networks():
    fast, slow = mjp.ReactionNetwork([("X -> 0", 2.0)]), mjp.ReactionNetwork([("X -> 0", 0.1)])
    graph = mjp.Graph().root("r", {"X": 40})
    graph.edge("r", "a", fast, duration=0.5).edge("r", "b", slow, duration=0.5)
    graph.edge("a", "c", slow, duration=1.0).edge("c", "d", fast, duration=0.0)
    draws = mjp.simulate(graph, jax.random.key(7), replicates=5000)
    agree(np.asarray(draws["a"])[:, 0], binom.pmf(np.arange(41), 40, np.exp(-1.0)))
    agree(np.asarray(draws["b"])[:, 0], binom.pmf(np.arange(41), 40, np.exp(-0.05)))
    agree(np.asarray(draws["c"])[:, 0], binom.pmf(np.arange(41), 40, np.exp(-1.1)))
    np.testing.assert_array_equal(draws["c"], draws["d"])
    assert abs(np.corrcoef(draws["a"][:, 0], draws["b"][:, 0])[0, 1]) < 4 / np.sqrt(5000)
    for a, b in (("r", "a"), ("r", "b"), ("a", "c")):
        path = draws.edge(a, b)
        np.testing.assert_array_equal(path.values[:, 0], draws[a])
        np.testing.assert_array_equal(path.values[:, -1], draws[b])
    with pytest.raises(KeyError, match="there is no edge"):
        draws.edge("r", "c")


def test_newick_trees_and_laws_of_the_root():
    network = mjp.ReactionNetwork([("X -> Y", 1.0), ("Y -> X", 1.0)])
    first = dist.Binomial(10, jnp.array([0.5, 0.2])).to_event(1)
    tree = mjp.tree("((a:1,b:1)ab:0.5,c:1.5)r;", network, initial=first)
    draws = mjp.simulate(tree, jax.random.key(8), replicates=2000)
    agree(np.asarray(draws["r"])[:, 0], binom.pmf(np.arange(11), 10, 0.5))
    assert np.all(draws.values.sum(-1) == draws["r"].sum(-1)[:, None])
    pieces = [draws.edge("r", "ab"), draws.edge("ab", "a"), draws.edge("r", "c")]
    assert [float(p.end[0]) for p in pieces] == [0.5, 1.5, 1.5]


def test_levels_of_any_width():
    network = mjp.ReactionNetwork([("X -> Y", [1.0, 0.2]), ("Y -> X", 1.0)], breaks=[1.5])
    star = ",".join(f"s{i}:1" for i in range(20))
    tree = mjp.tree(f"(({star})hub:1,((((d:1)c:1)b:1,b2:1.2)a:1)a0:0)r;", network, initial=[30, 10])
    draws = mjp.simulate(tree, jax.random.key(12), replicates=3)
    assert np.all(draws.values.sum(-1) == 40)
    for parent, child in tree.nx.edges:
        path = draws.edge(parent, child)
        np.testing.assert_array_equal(path.values[:, 0], draws[parent])
        np.testing.assert_array_equal(path.values[:, -1], draws[child])
        assert np.all(np.diff(path.times) >= 0)
    # siblings are independent
    assert len(np.unique(np.asarray([draws[f"s{i}"][0, 0] for i in range(20)]))) > 3


def test_chains_are_read_at_any_time_and_as_tables():
    graph = mjp.chain(mjp.ReactionNetwork(SIR), [0.0, 1.0, 3.0], initial={"S": 60, "I": 2, "R": 0}, series=2)
    draws = mjp.simulate(graph, jax.random.key(9), replicates=4)
    at = draws.at([-1.0, 0.0, 1.0, 2.2, 3.0, 4.0])
    assert at.shape == (4, 2, 6, 3)
    assert np.all(at[:, :, [0, 5]] == -1)
    np.testing.assert_array_equal(at[:, 0, 2], draws[(0, 1)])
    np.testing.assert_array_equal(at[:, 1, 4], draws[(1, 2)])
    np.testing.assert_array_equal(at[:, 1, 3], draws.edge((1, 1), (1, 2)).at(2.2))
    table = draws.to_xarray()
    assert table.dims == ("draw", "node", "species")
    np.testing.assert_array_equal(table.sel(species="I", node="(1, 2)"), draws[(1, 2)][:, 1])
    one = mjp.simulate(mjp.chain(mjp.ReactionNetwork(SIR), [0.0, 1.0], initial=(60, 2, 0)), jax.random.key(0))
    assert one.to_xarray().dims == ("node", "species")
    assert one.at(0.5).shape == (3,)
    assert one.path().values.shape[-1] == 3


def test_observations_are_simulated_by_name_or_position():
    graph = mjp.chain(mjp.ReactionNetwork(SIR), [0.0, 1.0, 3.0], initial=(60, 2, 0))
    graph.observe_each(lambda x: dist.Poisson(x["I"]), None)
    graph.observe_each(lambda x: dist.Normal(jnp.array([0.0, 1.0, 1.0]) @ x, 1e-3), [np.nan, 1.0, 2.0])
    graph.observe_each(mjp.Exactly(), np.full((3, 3), np.nan))
    draws = mjp.simulate(graph, jax.random.key(10), replicates=3000)
    counted, summed, exact = draws.observations
    assert counted.shape == summed.shape == (3000, 3)
    np.testing.assert_array_equal(exact, draws.values)
    np.testing.assert_allclose(summed, draws.values[..., 1:].sum(-1), atol=0.01)
    error = np.std(np.asarray(counted - draws.values[..., 1]), axis=0) / np.sqrt(3000)
    assert np.all(np.abs(np.mean(counted - draws.values[..., 1], axis=0)) < 4 * error)


@pytest.mark.slow
def test_epidemics_end_with_the_law_of_their_truncation():
    network = mjp.ReactionNetwork([("S + I -> 2 I", 0.08), ("I -> R", 1.0)])
    process, states = network.truncated([19, 1, 0])
    law = expm(np.asarray(process.generator({})[0]) * 40.0)[0]
    counts = ends(network, [19, 1, 0], 40.0, seed=11, n=200_000)
    agree(counts[:, 2], np.bincount(states[:, 2], weights=law, minlength=21))


def test_a_chain_of_a_truncated_network_starts_at_a_count():
    """Labels of its states are tuples, which are not to be taken for probabilities."""
    network = mjp.ReactionNetwork([("0 -> X", 3.0), ("X -> 0", 0.6)])
    process, _ = network.truncated([5], bounds={"X": 20})
    path = mjp.simulate(mjp.chain(process, [0.0, 1.0], initial=(5,)), jax.random.key(0))
    assert process.states[int(path.values[0])] == (5,)
    with pytest.raises(TypeError, match="got an array of shape"):
        mjp.simulate(mjp.chain(process, [0.0, 1.0], initial=(99,)), jax.random.key(0))
