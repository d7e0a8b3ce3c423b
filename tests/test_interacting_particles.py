"""Interacting particles: rules by hand, the two laws and posterior paths against enumeration."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
import pytest
from jax import lax
from observed_agents import (
    CARELESS,
    DURATION,
    ERRORS,
    FIRST,
    KINDS,
    RATES,
    STATES,
    SURE,
    VALUES,
    K,
    N,
    T,
    check_marginals,
    directed,
    influence,
    likelihood,
    observe,
    two_networks,
)
from particle_truth import Enumerated, sirs_step

import mjp
from mjp.inference.agent_path_law import AgentPathLaw
from mjp.inference.individual_forward_backward import colours_of, possible_path, sweep
from mjp.inference.particle_chain import evaluate


def epidemic(network, **options):
    return mjp.InteractingParticles.sirs(network, **{**RATES, **options})


def process_of(networks):
    """With contacts in "one" network or in "two"."""
    if networks == "two":
        return epidemic(two_networks(), infection=KINDS, weight="weight")
    return epidemic(directed(), weight="weight")


def step_of(networks):
    if networks == "two":
        force = sum(KINDS[kind] * influence(network) for kind, network in two_networks().items())
        return sirs_step(force, 1.0, *list(RATES.values())[1:], DURATION)
    return sirs_step(influence(directed()), *RATES.values(), DURATION)


def observed_chain(totals=True, networks="one"):
    """A chain that is observed in every way there is."""
    chain = mjp.chain(
        process_of(networks),
        DURATION * np.arange(T),
        initial=dist.Categorical(jnp.asarray(FIRST)),
    )
    return observe(chain, totals)


def enumerated(totals=True, networks="one"):
    return Enumerated(N, K, step_of(networks), FIRST, T, lambda t, c: likelihood(t, c, totals))


# ------------------------------------------------------------------------------------------ rules


def test_the_steps_of_an_epidemic():
    process = epidemic(directed(), weight="weight", infection=np.array([1.0, 2.0, 3.0, 4.0]))
    states = np.array([1, 0, 0, 2])
    contacts = influence(directed()) * np.array([[1.0], [2.0], [3.0], [4.0]])
    expected = sirs_step(contacts, 1.0, *list(RATES.values())[1:], DURATION)(states)
    chain = mjp.chain(process, DURATION * np.arange(2), initial=dist.Categorical(jnp.asarray(FIRST)))
    model = evaluate(chain)
    found = np.stack(model.rows(jnp.asarray(states), model.at_step(0)), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_the_steps_of_opinions_and_spins():
    star = nx.star_graph(3)
    voter = mjp.InteractingParticles.voter(star, ["a", "b"], listening=0.6, mutation=0.1)
    counts = jnp.array([[2.0, 0.0], [1.0, 0.0]])  # two neighbours say a and one b; no neighbours
    rows = np.asarray(voter.probabilities(counts, voter.parameters))
    stay = 0.05 + 0.9 * (0.4 + 0.6 * np.array([2 / 3, 1 / 3]))
    np.testing.assert_allclose(rows[[0, 1], [0, 1], 0], stay, atol=1e-14)
    np.testing.assert_allclose(rows[:, :, 1], [[0.95, 0.05], [0.05, 0.95]], atol=1e-14)
    spins = mjp.InteractingParticles.ising(star, 0.3, 0.1)
    up = np.asarray(spins.probabilities(counts, spins.parameters))[:, 1]
    np.testing.assert_allclose(up[:, 0], 1 / (1 + np.exp(-2 * (0.3 * (1 - 2) + 0.1))), atol=1e-14)


def test_a_rule_as_a_matrix_and_as_changes_of_covariates():
    def changes(neighbours, at):
        return {("out", "in"): 1 - jnp.exp(-at["pull"] * neighbours["in"] * at["season"]), ("in", "out"): 0.2}

    def matrix(neighbours, at):
        p = changes(neighbours, at)[("out", "in")]
        return jnp.array([[1 - p, p], [0.2, 0.8]])

    network, season = nx.path_graph(3), np.array([1.0, 2.0, 0.5])
    logs = []
    for rule in (changes, matrix):
        pulled = mjp.InteractingParticles(network, rule, ["out", "in"], parameters={"pull": [0.1, 0.4, 0.2]})
        assert pulled.covariates == ("season",)
        chain = mjp.chain(pulled, range(4), initial=["in", "out", "out"], covariates={"season": season})
        path = jnp.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1]])
        logs.append(AgentPathLaw(chain).log_prob(path))
    out, inside = lambda x: np.exp(-x), lambda x: 1 - np.exp(-x)
    hand = [0.8, inside(0.4), out(0.0), 0.2, 0.8, out(0.2 * 2), out(0.1 * 0.5), 0.8, inside(0.2 * 0.5)]
    np.testing.assert_allclose(logs, np.sum(np.log(hand)), rtol=1e-12)


def test_simulated_states_have_the_enumerated_law():
    """Two steps per edge and two series; 4 standard errors."""
    step = sirs_step(influence(directed()), *RATES.values(), DURATION / 2)
    truth = Enumerated(N, K, step, np.eye(3)[[1, 0, 0, 2]], 3, lambda t, c: 1.0, steps=2)
    process = epidemic(directed(), weight="weight")
    chain = mjp.chain(process, DURATION * np.arange(3), initial=["I", "S", "S", "R"], steps=2, series=2)
    chain.observe_each(mjp.Exactly())
    draws = 2000
    paths = jax.jit(jax.vmap(lambda key: mjp.simulate(chain, key)))(
        jax.random.split(jax.random.key(0), draws)
    )
    last = np.asarray(paths[1, 2])
    assert paths.path_values.shape == (draws, 5, 2, N)
    assert paths.observations[0].shape == (draws, 6, N)
    np.testing.assert_array_equal(paths.edge((1, 0), (1, 1)).states[:, -1], paths[1, 1])
    np.testing.assert_array_equal(paths.at(DURATION)[:, 0], paths[0, 1])
    for agent in range(N):
        for state in range(K):
            p = truth.probability(2, lambda c, a=agent, s=state: c[a] == s)
            error = 4 * np.sqrt(p * (1 - p) / draws)
            assert abs(np.mean(last[:, agent] == state) - p) < error + 1e-12


def test_a_rule_sees_the_neighbours_in_each_network():
    """Out of two networks that hold the agents in different orders, against the matrix of weights of each."""

    def joins(neighbours, at):
        assert list(neighbours) == ["home", "work"]
        push = at["push"] * neighbours["home"]["in"] + 0.3 * neighbours["work"]["out"] ** 2
        return {("out", "in"): 1 - jnp.exp(-push)}

    networks = two_networks()
    process = mjp.InteractingParticles(
        networks, joins, ["out", "in"], parameters={"push": 0.7}, weight="weight"
    )
    assert (process.n_networks, process.agents) == (2, tuple(range(N)))
    states = np.array([1, 0, 1, 0])
    model = evaluate(mjp.chain(process, range(2), initial=["in", "out", "in", "out"], series=2))
    found = np.asarray(model.rows(jnp.tile(jnp.asarray(states), 2), model.at_step(0)))
    home, work = (influence(network) for network in networks.values())
    push = np.exp(-(0.7 * home @ states + 0.3 * (work @ (1 - states)) ** 2))
    stays_out = np.where(states == 0, push, 0.0)
    np.testing.assert_allclose(found, np.tile([stays_out, 1 - stays_out], 2), atol=1e-14)


# ------------------------------------------------------------------------------------ the two laws


def test_agents_without_contacts_are_conditioned_exactly():
    network = nx.empty_graph(N)
    chain = mjp.chain(
        epidemic(network), DURATION * np.arange(T), initial=dist.Categorical(jnp.asarray(FIRST)), steps=2
    )
    chain.observe_each(mjp.Misclassified(ERRORS), CARELESS)
    chain.observe_each(mjp.Exactly(), SURE)
    chain.observe_each(mjp.EachAgent(lambda state: dist.Normal(0.5 * state, 0.4)), VALUES)
    step = sirs_step(np.zeros((N, N)), *RATES.values(), DURATION / 2)
    truth = Enumerated(N, K, step, FIRST, T, lambda t, c: likelihood(t, c, False), steps=2)
    guided = mjp.condition(chain)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth.log_evidence, rtol=1e-12)
    z = {"steps": jax.random.normal(jax.random.key(0), guided.innovations["steps"])}
    np.testing.assert_allclose(guided.push(z)[1], 0.0, atol=1e-12)


def test_neighbours_that_are_known_leave_no_weight():
    """Agent 0 is seen all the time, so that what the others take it for is what it is."""
    network = nx.DiGraph([(0, 1), (0, 2)])
    chain = mjp.chain(epidemic(network), range(4), initial=["I", "S", "S"])
    rows = [[None] * 3, ["I", None, None], ["R", None, "I"], ["S", "R", None]]
    chain.observe_each(mjp.Exactly(), rows)
    step = sirs_step(influence(network), *RATES.values(), 1.0)
    seen = lambda t, c: all(x is None or STATES[s] == x for s, x in zip(c, rows[t], strict=True))
    truth = Enumerated(3, K, step, np.eye(3)[[1, 0, 0]], 4, seen)
    guided = mjp.condition(chain)
    assert not guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth.log_evidence, rtol=1e-9)
    _, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(0), 50))
    np.testing.assert_allclose(weights, 0.0, atol=1e-9)


@pytest.mark.parametrize(
    ("auxiliary", "networks"),
    [("mean field", "one"), ("projected", "one"), ("frozen", "one"), ("projected", "two")],
)
def test_the_evidence_is_that_of_enumeration(auxiliary, networks):
    """Any guide gives it, with its standard error; and the better guides give a small one."""
    chain = observed_chain(networks=networks)
    if auxiliary == "frozen":
        options = {"auxiliary": jnp.tile(jnp.array([1, 0, 0, 1]), (T, 1))}
    else:
        options = {"auxiliary": auxiliary}
    found = mjp.evidence(chain, jax.random.key(1), 4000, **options)
    truth = enumerated(networks=networks).log_evidence
    assert abs(found.log_evidence - truth) < 4 * found.standard_error
    assert found.standard_error < {"mean field": 0.05, "projected": 0.05, "frozen": 0.1}[auxiliary]


def test_small_steps_do_not_spoil_the_projected_guide():
    """What many steps say of a neighbour adds up to what a few say."""
    step = sirs_step(influence(directed()), *RATES.values(), DURATION / 16)
    truth = Enumerated(N, K, step, FIRST, T, likelihood, steps=16).log_evidence
    initial = dist.Categorical(jnp.asarray(FIRST))
    chain = observe(mjp.chain(process_of("one"), DURATION * np.arange(T), initial=initial, steps=16))
    found = mjp.evidence(chain, jax.random.key(1), 2000, auxiliary="projected", iterations=4)
    assert abs(found.log_evidence - truth) < 4 * found.standard_error
    assert found.ess > 100
    assert found.khat < 0.7


def test_series_are_independent():
    one = mjp.chain(epidemic(nx.path_graph(3)), range(3), initial=["I", "S", "S"])
    rows = np.array([[None, None, None], ["I", None, "S"], [None, "I", None]], dtype=object)
    other = np.array([[None, None, None], [None, "I", None], ["R", None, None]], dtype=object)
    one.observe_each(mjp.Exactly(), np.stack([rows, other]))
    guided = mjp.condition(one)
    assert guided.log_evidence.shape == (2,)
    path, weights = guided.sample(jax.random.key(0))
    assert weights.shape == (2,)
    assert path.values.shape == (6, 3)
    for series, values in enumerate((rows, other)):
        alone = mjp.chain(epidemic(nx.path_graph(3)), range(3), initial=["I", "S", "S"])
        alone.observe_each(mjp.Exactly(), values)
        np.testing.assert_allclose(mjp.condition(alone).log_evidence, guided.log_evidence[series], rtol=1e-12)
    assert path.labels((0, 1))[0] == "I"


# -------------------------------------------------------------------------------- posterior paths


def test_the_density_of_a_path_and_its_slope():
    path = jnp.array([[1, 0, 0, 2], [1, 1, 0, 2], [2, 1, 0, 0]])

    def log_prob(rates):
        process = epidemic(directed(), weight="weight", infection=rates[0], recovery=rates[1])
        first = dist.Categorical(jnp.asarray(FIRST))
        return AgentPathLaw(mjp.chain(process, DURATION * np.arange(3), initial=first)).log_prob(path)

    step = sirs_step(influence(directed()), *RATES.values(), DURATION)
    states = np.asarray(path)
    hand = np.log(FIRST[range(N), states[0]]).sum()
    hand += sum(np.log(step(states[t])[range(N), states[t + 1]]).sum() for t in range(2))
    rates, h = jnp.array([RATES["infection"], RATES["recovery"]]), 1e-6
    value, slope = jax.jit(jax.value_and_grad(log_prob))(rates)
    np.testing.assert_allclose(value, hand, rtol=1e-12)
    both = jnp.concatenate([rates + h * jnp.eye(2), rates - h * jnp.eye(2)])
    moved = jax.jit(jax.vmap(log_prob))(both)
    np.testing.assert_allclose(slope, (moved[:2] - moved[2:]) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize(
    ("totals", "networks"),
    [(False, "one"), (False, "two"), pytest.param(True, "one", marks=pytest.mark.slow)],
    ids=["colours side by side", "two networks", "one by one"],
)
def test_paths_drawn_agent_by_agent_have_the_enumerated_law(totals, networks):
    """Every marginal and two neighbours together, to 4 standard errors of a chain of sweeps."""
    check_sweeps(observed_chain(totals, networks), enumerated(totals, networks), N if totals else 3)


def test_agents_whose_influence_is_known_move_at_once():
    """Who is infectious is seen every day, and whether the others are immune is not: one colour will do."""
    ill = np.array([[0, 0, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]])
    seen = mjp.Misclassified([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], labels=["well", "ill"])
    chain = mjp.chain(
        process_of("two"), DURATION * np.arange(T), initial=dist.Categorical(jnp.asarray(FIRST))
    )
    chain.observe_each(seen, np.array(["well", "ill"])[ill])
    likelihood = lambda t, c: float(np.all((np.asarray(c) == 1) == ill[t]))
    check_sweeps(chain, Enumerated(N, K, step_of("two"), FIRST, T, likelihood), 1, least=8)
    # an agent that is not seen once may then influence others, and they move one after the other
    hidden = np.array(["well", "ill"], dtype=object)[ill]
    hidden[2, 0] = None
    chain = mjp.chain(process_of("two"), DURATION * np.arange(T), initial=["S", "S", "I", "S"])
    chain.observe_each(seen, hidden)
    assert len(colours_of(evaluate(chain)).members) == 2


def check_sweeps(chain, truth, colours, least=40):
    """Marginals of a chain of sweeps are those of enumeration, more than `least` of them not trivial."""
    model = evaluate(chain)
    order = colours_of(model)
    assert len(order.members) == colours
    start, found = possible_path(model, order, jax.random.key(1), jnp.zeros(model.shape, jnp.int32))
    assert found

    def step(path, key):
        path = sweep(model, order, key, path)
        return path, path

    run = jax.jit(lambda keys: lax.scan(step, start, keys)[1])
    paths = np.asarray(run(jax.random.split(jax.random.key(2), 10_000)))
    check_marginals(paths, truth, least)


# ------------------------------------------------------------------------------------- bad input


def declared(**options):
    network = options.pop("network", nx.path_graph(3))
    usual = {"rule": lambda n, at: {("a", "b"): 0.1}, "states": ["a", "b"]}
    return mjp.InteractingParticles(network, **{**usual, **options})


def chain_of(process=None, initial=("S", "S", "I"), **options):
    return mjp.chain(process or epidemic(nx.path_graph(3)), range(3), initial=initial, **options)


def looped():
    network = nx.path_graph(3)
    network.add_edge(1, 1)
    return network


def branching():
    process = epidemic(nx.path_graph(3))
    graph = mjp.Graph().root("a", ["S", "S", "I"]).edge("a", "b", process).edge("a", "c", process)
    return mjp.condition(graph)


def two_processes():
    graph = mjp.Graph().root("a", ["S", "S", "I"]).edge("a", "b", epidemic(nx.path_graph(3)))
    return mjp.condition(graph.edge("b", "c", epidemic(nx.path_graph(3))))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: declared(network=[(0, 1)]), TypeError, "network must be a networkx.Graph"),
        (lambda: declared(network=nx.MultiGraph([(0, 1)])), TypeError, "must not be a multigraph"),
        (lambda: declared(network=nx.Graph()), ValueError, "at least one node"),
        (lambda: declared(network=looped()), ValueError, "agent 1 is in contact with itself"),
        (lambda: declared(weight="w"), ValueError, "contact 0 - 1 has no attribute 'w'"),
        (lambda: declared(network={}), ValueError, "network must name at least one network"),
        (
            lambda: declared(network={"a": nx.path_graph(3), "b": [(0, 1)]}),
            TypeError,
            r"network\['b'\] must be a networkx.Graph",
        ),
        (
            lambda: declared(network={"a": nx.path_graph(3), "b": nx.path_graph(4)}),
            ValueError,
            r"network\['b'\]: networks must have the same nodes, but not all have 3",
        ),
        (
            lambda: epidemic({"a": nx.path_graph(3)}, infection={"b": 1.0}),
            ValueError,
            r"infection must give a rate for each network, \['a'\], got \['b'\]",
        ),
        (
            lambda: epidemic(nx.path_graph(3), infection={"b": 1.0}),
            TypeError,
            "infection must be one rate where there is one network",
        ),
        (
            lambda: mjp.InteractingParticles.ising({"a": nx.path_graph(3)}, 0.1),
            TypeError,
            "network must be one network",
        ),
        (lambda: declared(states=["a", "a"]), ValueError, "states must be distinct"),
        (lambda: declared(rule=0.3), TypeError, "rule must be a function"),
        (lambda: declared(states=["a", "c"]), ValueError, "rule: unknown state 'b'"),
        (
            lambda: declared(rule=lambda n, at: {("a", "a"): 0.1}),
            ValueError,
            "is no change",
        ),
        (
            lambda: declared(rule=lambda n, at: jnp.ones(3)),
            TypeError,
            r"matrix \(2, 2\), got shape \(3,\)",
        ),
        (
            lambda: declared(rule=lambda n, at: {("a", "b"): 0.6 * n["b"]}),
            ValueError,
            r"probability of \('a', 'b'\) must be in \[0, 1\], got 1.2 .*{'a': 0.0, 'b': 2.0}",
        ),
        (
            lambda: declared(rule=lambda n, at: jnp.full((2, 2), 0.4)),
            ValueError,
            "from state 'a' must sum to 1, got 0.8",
        ),
        (
            lambda: declared(parameters={"x": [1.0, 2.0]}),
            ValueError,
            r"x must be one number or one per agent, shape \(3,\)",
        ),
        (
            lambda: declared(parameters={"duration": 1.0}),
            ValueError,
            "'duration' cannot be a name",
        ),
        (lambda: epidemic(nx.path_graph(3), recovery=-1.0), ValueError, "recovery must be >= 0, got -1"),
        (lambda: epidemic(nx.path_graph(3), waning=np.nan), ValueError, "waning must be finite"),
        (
            lambda: mjp.InteractingParticles.voter(nx.path_graph(3), ["a", "b"], listening=1.2),
            ValueError,
            r"listening must be in \[0, 1\], got 1.2",
        ),
        (lambda: chain_of(initial=["S", "I"]), ValueError, r"one state per agent, shape \(3,\)"),
        (lambda: chain_of(initial=["S", "I", "X"]), ValueError, "agent 2 has the unknown state 'X'"),
        (lambda: chain_of(initial={0: "S", 1: "I"}), ValueError, "agent 2 has no state"),
        (lambda: chain_of(initial=dist.Normal(0.0, 1.0)), ValueError, "must be a Categorical law"),
        (
            lambda: chain_of(initial=dist.Categorical(jnp.ones(2) / 2)),
            ValueError,
            "probabilities of 3 states",
        ),
        (
            lambda: mjp.condition(chain_of().observe_each(mjp.Exactly(), [None, ["S", "I", "Q"], None])),
            ValueError,
            "agent 2: unknown state 'Q'",
        ),
        (
            lambda: mjp.condition(chain_of().observe_each(mjp.Exactly(), [["S", "I"]] * 3)),
            ValueError,
            r"expected one per agent, \(3,\), got shape \(2,\)",
        ),
        (
            lambda: mjp.condition(chain_of().observe_each(mjp.Misclassified(np.eye(2)), [["S"] * 3] * 3)),
            ValueError,
            r"matrix must have shape \(3, 3\)",
        ),
        (
            lambda: mjp.condition(chain_of().observe_each(lambda x: dist.Poisson(x["I"] + 0.1), [1.5, 2, 3])),
            ValueError,
            "1.5 is not a count",
        ),
        (
            lambda: mjp.condition(
                chain_of().observe_each(mjp.LinearGaussianObservation(np.eye(3), np.eye(3)), np.ones((3, 3)))
            ),
            TypeError,
            "LinearGaussianObservation is for vectors",
        ),
        (lambda: mjp.EachAgent(dist.Normal(0.0, 1.0)), TypeError, "must be a function"),
        (lambda: mjp.EachAgent(lambda state: state), TypeError, "must return a Distribution, got"),
        (
            lambda: mjp.chain(mjp.MarkovChain(np.eye(2)), range(2), initial=0).observe_each(
                mjp.EachAgent(lambda state: dist.Normal(state, 1.0)), [1.0, 2.0]
            ),
            TypeError,
            "is for agents, which MarkovChain has not",
        ),
        (
            lambda: mjp.condition(
                chain_of()
                .observe_each(mjp.Exactly(), [None, None, ["S", "S", "I"]])
                .observe_each(mjp.Exactly(), [None, None, ["S", "S", "R"]])
            ),
            ValueError,
            "no state of some agent fits",
        ),
        (lambda: mjp.condition(chain_of(), auxiliary="exact"), ValueError, "auxiliary must be one of"),
        (lambda: mjp.condition(chain_of(), auxiliary=np.zeros((2, 3), int)), ValueError, r"shape \(3, 3\)"),
        (branching, TypeError, "live on chains, and this graph branches"),
        (two_processes, TypeError, "same InteractingParticles"),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_rule_that_reads_what_is_not_there():
    process = declared(rule=lambda n, at: {("a", "b"): at["seson"]})
    chain = mjp.chain(process, range(3), initial=["a", "a", "b"], covariates={"season": [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"reads 'seson', which is neither.*'season'"):
        mjp.condition(chain)


def test_observations_by_agent_need_agents():
    g = mjp.chain(mjp.MarkovJump({("a", "b"): 1.0}), [0.0, 1.0], initial="a")
    g.observe(1, mjp.EachAgent(lambda s: dist.Normal(s, 1.0)), 1.0)
    with pytest.raises(TypeError, match=r"EachAgent is for graphs of .*, got one of MarkovJump"):
        mjp.condition(g)
