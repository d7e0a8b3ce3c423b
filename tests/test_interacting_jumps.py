"""Agents in continuous time: the two laws, densities and posterior paths against enumeration."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from _calibration import check_calibrated, with_values
from jax import lax
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import NUTS, Gibbs, Predictive
from observed_agents import (
    DURATION,
    FIRST,
    KINDS,
    RATES,
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
from particle_truth import EnumeratedInTime

import mjp
from mjp.inference import IndividualForwardBackward, IndividualUniformization
from mjp.inference.agent_jump_law import AgentJumpLaw
from mjp.inference.agent_jumps import node_times, states_at
from mjp.inference.individual_forward_backward import colours_of
from mjp.inference.jump_buffers import unpack
from mjp.inference.uniformized_agents import possible_path, sweep

TIMES = DURATION * np.arange(T)
SEASON = np.array([0.5, 1.5, 1.0, 2.0])


def force_of(networks):
    if networks == "two":
        return sum(KINDS[kind] * influence(network) for kind, network in two_networks().items())
    return RATES["infection"] * influence(directed())


def rates_of(networks, season):
    """Rates (n, K) of entering each state, of a configuration."""

    def rates(configuration, interval):
        scale = SEASON[interval] if season else 1.0
        into = np.zeros((N, K))
        into[configuration == 0, 1] = (
            scale * (force_of(networks) @ (configuration == 1)) + RATES["external"]
        )[configuration == 0]
        into[configuration == 1, 2] = RATES["recovery"]
        into[configuration == 2, 0] = RATES["waning"]
        return into

    return rates


def seasonal(neighbours, at):
    infection = at["infection"] * neighbours["I"] * at["season"] + at["external"]
    return {("S", "I"): infection, ("I", "R"): at["recovery"], ("R", "S"): at["waning"]}


def chain_of(networks="one", season=False, first=FIRST, steps=None, **rates):
    rates = {**RATES, **rates}
    if season:
        process = mjp.InteractingJumps(
            directed(), seasonal, ("S", "I", "R"), parameters=rates, weight="weight"
        )
    elif networks == "two":
        process = mjp.InteractingJumps.sirs(two_networks(), **{**rates, "infection": KINDS}, weight="weight")
    else:
        process = mjp.InteractingJumps.sirs(directed(), **rates, weight="weight")
    covariates = {"season": SEASON} if season else None
    initial = dist.Categorical(jnp.asarray(first))
    return mjp.chain(process, TIMES, initial=initial, covariates=covariates, steps=steps)


def enumerated(totals=True, networks="one", season=False):
    return EnumeratedInTime(
        N, K, rates_of(networks, season), FIRST, TIMES, lambda t, c: likelihood(t, c, totals)
    )


# ------------------------------------------------------------------------------------------ rates


@pytest.mark.parametrize("coupling", [0.3, -0.2])
def test_glauber_dynamics_leave_the_boltzmann_law(coupling):
    """In detailed balance: exp(coupling sum of x_i x_j over contacts + field sum of x_i)."""
    contacts = nx.to_numpy_array(nx.cycle_graph(4))
    spins = mjp.InteractingJumps.ising(nx.cycle_graph(4), coupling, 0.1)
    law = lambda x: np.exp(coupling * x @ contacts @ x / 2 + 0.1 * x.sum())
    for code in range(16):
        x = 2.0 * np.array([code >> i & 1 for i in range(4)]) - 1
        counts = np.stack([contacts @ (x == -1), contacts @ (x == 1)])
        rates = np.asarray(spins.rates(jnp.asarray(counts), spins.parameters))
        np.testing.assert_allclose(rates[[0, 1], [1, 0]].sum(axis=0), 1.0)
        for i in range(4):
            other = x * np.where(np.arange(4) == i, -1, 1)
            to, back = (1, 0) if x[i] < 0 else (0, 1), (0, 1) if x[i] < 0 else (1, 0)
            there, here = rates[*to[::-1], i], rates[*back[::-1], i]
            np.testing.assert_allclose(law(x) * there, law(other) * here, rtol=1e-6)


def test_voters_listen_to_neighbours():
    voter = mjp.InteractingJumps.voter(nx.star_graph(3), ["a", "b"], listening=0.6, mutation=0.1)
    counts = jnp.array([[2.0, 0.0], [1.0, 0.0]])  # two neighbours say a and one b; no neighbours
    rates = np.asarray(voter.rates(counts, voter.parameters))
    np.testing.assert_allclose(rates[0, 1], [0.6 / 3 + 0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(rates[1, 0], [0.6 * 2 / 3 + 0.05, 0.05], rtol=1e-6)
    np.testing.assert_allclose(rates.sum(axis=1), 0.0, atol=1e-6)


def test_transition_probabilities_are_exponentials():
    from scipy.linalg import expm

    process = mjp.InteractingJumps.sirs(directed(), **RATES, weight="weight")
    counts = jnp.asarray(np.random.default_rng(0).uniform(0, 30, (3, 5)))
    at = {**process.parameters, "duration": jnp.asarray(2.0)}
    found, rates = np.asarray(process.probabilities(counts, at)), np.asarray(process.rates(counts, at))
    for i in range(5):
        np.testing.assert_allclose(found[..., i], expm(2.0 * rates[..., i]), atol=1e-12)


def test_how_often_agents_can_jump():
    path = nx.path_graph(3)
    assert mjp.InteractingJumps.sir(path, 1.0, 1.0).most_jumps == 2
    assert mjp.InteractingJumps.sis(path, 1.0, 1.0).most_jumps is None
    assert mjp.InteractingJumps.voter(path, ["a", "b"]).most_jumps is None


# ------------------------------------------------------------------------------------- the two laws


def test_agents_without_contacts_are_conditioned_exactly():
    process = mjp.InteractingJumps.sirs(nx.empty_graph(N), **RATES)
    chain = observe(mjp.chain(process, TIMES, initial=dist.Categorical(jnp.asarray(FIRST))), totals=False)
    alone = lambda c, _: (
        rates_of("one", False)(np.where(c == 1, 3, c), 0) + np.outer(c == 1, [0, 0, RATES["recovery"]])
    )
    truth = EnumeratedInTime(N, K, alone, FIRST, TIMES, lambda t, c: likelihood(t, c, False))
    guided = mjp.condition(chain)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, truth.log_evidence, rtol=1e-11)
    _, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(0), 50))
    np.testing.assert_allclose(weights, 0.0, atol=1e-11)


def test_innovations_drive_the_guided_path():
    guided = mjp.condition(observe(chain_of()))
    assert not guided.exact
    assert not guided.smooth
    keys = jax.random.split(jax.random.key(0), len(guided.innovations))
    z = {
        name: jax.random.normal(k, shape)
        for k, (name, shape) in zip(keys, guided.innovations.items(), strict=True)
    }
    path, log_weight = guided.push(z)
    again, same = jax.jit(lambda z: guided.push(z))(z)
    assert log_weight == pytest.approx(float(same))
    np.testing.assert_array_equal(path.jumps, again.jumps)


# frozen neighbours are a poor guide, which is told
@pytest.mark.filterwarnings("ignore:the weights of the guided paths have a heavy tail")
@pytest.mark.parametrize(
    ("auxiliary", "networks", "season"),
    [
        ("mean field", "one", False),
        ("projected", "one", True),
        ("frozen", "one", False),
        ("projected", "two", False),
    ],
)
def test_the_evidence_is_that_of_enumeration(auxiliary, networks, season):
    """Any guide gives it, with its standard error."""
    chain = observe(chain_of(networks, season, steps=4))
    options = {"auxiliary": auxiliary}
    if auxiliary == "frozen":
        options = {"auxiliary": jnp.tile(jnp.array([1, 0, 0, 1]), (4 * (T - 1) + 1, 1))}
    found = mjp.evidence(chain, jax.random.key(1), 4000, **options)
    truth = enumerated(networks=networks, season=season).log_evidence
    assert abs(found.log_evidence - truth) < 4 * found.standard_error
    assert found.standard_error < (0.12 if auxiliary == "frozen" else 0.05)
    assert found.overflow == 0


def test_the_evidence_of_the_guide_has_a_gradient():
    evidence = lambda rates: mjp.condition(outbreak(rates[0], rates[1])).log_evidence
    rates, h = jnp.array([0.8, 0.5]), 1e-6
    moved = [evidence(rates + h * side * one) for one in jnp.eye(2) for side in (1, -1)]
    slope = (np.array(moved[::2]) - np.array(moved[1::2])) / (2 * h)
    np.testing.assert_allclose(jax.grad(evidence)(rates), slope, rtol=1e-5)


def test_simulated_states_have_the_enumerated_law():
    truth = EnumeratedInTime(N, K, rates_of("one", True), FIRST, TIMES, lambda t, c: 1.0)
    chain = chain_of(season=True)
    keys = jax.random.split(jax.random.key(0), 4000)
    paths = np.asarray(jax.jit(jax.vmap(lambda key: mjp.simulate(chain, key).values))(keys))
    check_marginals(paths, truth, 50)


# ----------------------------------------------------------------------------------- paths and laws


def density_by_hand(value, networks, season):
    """Events in the order of time, one after the other."""
    value = np.asarray(value)
    rates, first = rates_of(networks, season), value[:, 0, 1].astype(int)
    events = [(t, i, int(s)) for i in range(N) for t, s in value[i, 1:] if t < TIMES[-1]]
    events += [(t, None, 0) for t in TIMES[1:]]
    now, states, total = 0.0, first.copy(), np.log(FIRST[range(N), first]).sum()
    for t, agent, state in sorted(events, key=lambda event: event[0]):
        interval = min(np.searchsorted(TIMES, now, side="right") - 1, T - 2)
        into = rates(states, interval)
        total -= into.sum() * (t - now)
        if agent is not None and state != states[agent]:
            total += np.log(into[agent, state])
            states[agent] = state
        now = t
    return total


@pytest.mark.parametrize(("networks", "season"), [("one", False), ("one", True), ("two", False)])
def test_the_density_of_a_path(networks, season):
    law = AgentJumpLaw(chain_of(networks, season), 12, 24)
    for i in range(3):
        value = law.sample(jax.random.key(i))
        hand = density_by_hand(value, networks, season)
        np.testing.assert_allclose(law.log_prob(value), hand, rtol=1e-10)


def test_the_density_is_smooth_in_the_rates():
    value = AgentJumpLaw(chain_of(), 12, 24).sample(jax.random.key(1))

    def log_prob(rates):
        infection = rates[0] * jnp.array([1.0, 2.0, 3.0, 4.0])  # one per agent
        return AgentJumpLaw(chain_of(infection=infection, recovery=rates[1]), 12, 24).log_prob(value)

    rates, h = jnp.array([0.4, 0.7]), 1e-6
    slope = jax.jit(jax.grad(log_prob))(rates)
    both = jnp.concatenate([rates + h * jnp.eye(2), rates - h * jnp.eye(2)])
    moved = jax.jit(jax.vmap(log_prob))(both)
    np.testing.assert_allclose(slope, (moved[:2] - moved[2:]) / (2 * h), rtol=1e-6)


def test_a_path_that_does_not_fit_has_no_density():
    law = AgentJumpLaw(chain_of(waning=20.0, recovery=20.0, external=20.0), 2, 64)
    value = law.sample(jax.random.key(0))
    assert law.log_prob(value) == -np.inf
    path = law.trajectory(value)
    assert path.overflow > 0
    assert path.values.min() >= 0


def test_a_jump_at_the_very_start_counts_once():
    """Rounding may put it there."""
    law = AgentJumpLaw(chain_of(), 4, 24)
    times, densities = [1e-9, 0.0], []
    for time in times:
        value = law.start.at[0, 1:, 1].set(1.0).at[0, 1, 0].set(time)
        densities.append(law.log_prob(value))
    np.testing.assert_allclose(*densities, rtol=1e-6)


@pytest.mark.parametrize(
    ("networks", "season", "totals"),
    [("one", True, False), ("two", False, False), pytest.param("one", False, True, marks=pytest.mark.slow)],
    ids=["season", "two networks", "one by one"],
)
def test_paths_drawn_agent_by_agent_have_the_enumerated_law(networks, season, totals):
    """Marginals at the nodes of a chain of sweeps, to 4 standard errors."""
    law = AgentJumpLaw(observe(chain_of(networks, season), totals), 12, 48)
    order = colours_of(law.model)
    assert len(order.members) == (N if totals else 3)
    start, found = possible_path(law.model, order, jax.random.key(1), law.start, law.max_events)
    assert found

    def step(value, key):
        value, overflow = sweep(law.model, order, key, value, law.max_events)
        return value, (states_at(*unpack(value), node_times(law.model)).T, overflow)

    run = jax.jit(lambda keys: lax.scan(step, start, keys)[1])
    paths, overflow = run(jax.random.split(jax.random.key(2), 8000))
    assert overflow.sum() == 0
    check_marginals(np.asarray(paths), enumerated(totals, networks, season), 35)


def test_sweeps_that_do_not_fit_change_nothing():
    law = AgentJumpLaw(chain_of(), 4, 3)
    value = AgentJumpLaw(chain_of(), 4, 24).start
    found, overflow = sweep(law.model, colours_of(law.model), jax.random.key(0), value, 3)
    assert overflow > 0
    np.testing.assert_array_equal(found, value)


def test_a_trajectory():
    process = mjp.InteractingJumps.sir(nx.path_graph(3), 3.0, 0.5, external=0.2)
    rows = np.stack([[["I", None, None], ["R", None, "I"]], [["I", None, None], ["I", "S", None]]])
    chain = mjp.chain(process, [1.0, 2.5], initial=["I", "S", "S"])
    chain.observe_each(mjp.Exactly(), rows)
    path, weights = mjp.condition(chain).sample(jax.random.key(0))
    assert weights.shape == (2,)
    jumps = path.path(1)
    assert jumps.times.shape == (3, 2)
    assert jumps.states.shape == (3, 3)
    np.testing.assert_array_equal(jumps.at(2.5), path[(1, 1)])
    for agent in range(3):
        for time in (1.0, 1.3, 2.5):
            after = int(np.sum(np.asarray(jumps.times[agent]) <= time))
            assert path.at([time])[1, 0, agent] == jumps.states[agent, after]
    assert path.at(0.5).shape == (2, 3)
    assert np.all(path.at(0.5) == -1)
    assert path.labels((0, 1))[0] == "R"
    with pytest.raises(ValueError, match="series must be chosen from the 2"):
        path.path()


def test_the_path_on_an_edge():
    process = mjp.InteractingJumps.sis(nx.complete_graph(3), 1.0, 1.0, external=0.5)
    path = mjp.simulate(mjp.chain(process, [0.0, 1.0, 3.0], initial=["I", "S", "S"]), jax.random.key(1))
    whole, edge = path.path(), path.edge(1, 2)
    assert (float(edge.start), float(edge.end)) == (1.0, 3.0)
    grid = jnp.linspace(1.0, 3.0, 21)
    np.testing.assert_array_equal(edge.at(grid), whole.at(grid))
    before = path.edge(0, 1)
    np.testing.assert_array_equal(before.n_jumps + edge.n_jumps, whole.n_jumps)
    assert np.all(edge.times[..., -1] <= 3.0)


# ------------------------------------------------------------------------------------ in a model

NETWORK = nx.path_graph(4)
SEEN = [["I", "S", "S", "S"], ["I", None, "S", None], [None, "R", None, "S"], ["R", None, "I", None]]


def outbreak(infection, recovery, values=None, likelihood=None):
    process = mjp.InteractingJumps.sirs(NETWORK, infection, recovery, 0.2, external=0.05)
    chain = mjp.chain(process, [0.0, 1.0, 2.5, 3.0], initial=["I", "S", "S", "S"])
    return chain.observe_each(likelihood or mjp.Exactly(), SEEN if values is None else values)


def model():
    infection = numpyro.sample("infection", dist.LogNormal(-0.5, 0.7))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.7, 0.5))
    mjp.sample("flu", outbreak(infection, recovery), max_jumps=16)


@pytest.mark.filterwarnings("ignore:.*chains have not mixed")
def test_a_fit_from_end_to_end(tmp_path):
    fit = mjp.fit(model, draws=100, warmup=60, chains=2, progress=False)
    assert fit.engine == "uniformization by agent, NUTS given paths"
    assert fit.samples["flu.path"].shape == (2, 100, 4, 17, 2)
    stats = fit.data["sample_stats"]
    assert float(stats["paths_moved"].mean()) > 0.3
    assert int(stats["buffer_overflow"].sum()) == 0
    assert fit.data["log_likelihood"]["flu"].dims == ("chain", "draw", "time")
    paths = fit.paths("flu", np.array([0.0, 0.7, 2.5]))
    assert np.all(paths.sel(time=0.0, coordinate=0) == 1)
    assert np.all(paths.sel(time=2.5, coordinate=1) == 2)  # what was seen
    page = fit.report(tmp_path / "report.html").read_text()
    assert "Posterior probability of each state by agent and time" in page
    assert "could not be made" not in page


def test_prior_predictive_paths():
    drawn = Predictive(model, num_samples=3)(jax.random.key(0))
    assert drawn["flu"].shape == (3, 4, 4)
    assert np.all(drawn["flu"][:, 0] == np.array([1, 0, 0, 0]))


def network_of(**options):
    return mjp.InteractingJumps(
        NETWORK, lambda neighbours, at: {("S", "I"): at["a"] * neighbours["I"]}, ["S", "I"], **options
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: network_of(parameters={"a": -1.0}), ValueError, r"rate of \('S', 'I'\) must be finite and"),
        (lambda: network_of(parameters={"a": 1.0}, bound=0.0), ValueError, "bound must be > 0, got 0"),
        (lambda: network_of(parameters={"a": 1.0}, bound=[1.0]), ValueError, "bound must be one number or"),
        (lambda: network_of(parameters={"a": 1.0}, bound=np.nan), ValueError, "bound must be finite"),
        (
            lambda: mjp.InteractingJumps(NETWORK, lambda n, at: {("S", "S"): 1.0}, ["S", "I"]),
            ValueError,
            "is no change; staying needs no rate",
        ),
        (
            lambda: mjp.InteractingJumps(NETWORK, lambda n, at: jnp.ones(2), ["S", "I"]),
            TypeError,
            r"rule must return {\(from, to\): rate}",
        ),
        (
            lambda: mjp.InteractingJumps(NETWORK, lambda n, at: {("S", "I"): at["duration"]}, ["S", "I"]),
            ValueError,
            "must not depend on the duration",
        ),
        (lambda: mjp.InteractingJumps.sir(NETWORK, -1.0, 1.0), ValueError, "infection must be >= 0"),
        (
            lambda: mjp.InteractingJumps.voter(NETWORK, ["a", "b"], listening=-1.0),
            ValueError,
            "listening must be >= 0",
        ),
        (
            lambda: mjp.InteractingJumps.ising({"a": NETWORK}, 1.0),
            TypeError,
            "network must be one network for this rule",
        ),
        (lambda: mjp.condition(outbreak(1.0, 1.0), max_jumps=0), ValueError, "max_jumps must be a positive"),
        (
            lambda: mjp.condition(outbreak(1.0, 1.0), auxiliary="lna"),
            ValueError,
            "auxiliary must be one of",
        ),
        (
            lambda: mjp.condition(outbreak(1.0, 1.0, [[None] * 4, ["X", *[None] * 3], *[[None] * 4] * 2])),
            ValueError,
            "unknown state 'X'",
        ),
        (
            lambda: mjp.condition(outbreak(1.0, 1.0, likelihood=mjp.Exactly(entry=["R"]))),
            ValueError,
            "not for agents",
        ),
        (
            lambda: mjp.simulate(outbreak(1.0, 1.0), jax.random.key(0), max_events=1, max_jumps=1),
            ValueError,
            "agents had more jumps than fit",
        ),
    ],
)
def test_bad_input(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_kernels_take_the_agents_that_are_theirs():
    seeded = numpyro.handlers.seed(model, 0)
    with pytest.raises(ValueError, match="model has no interacting particles"):
        IndividualForwardBackward(seeded).init(jax.random.key(0), 0, None, (), {})

    def without():
        numpyro.deterministic("a", 1.0)

    with pytest.raises(ValueError, match="model has no agents in continuous time"):
        IndividualUniformization(without).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(ValueError, match="sweeps must be a positive integer"):
        IndividualUniformization(model, sweeps=0)

    with pytest.raises(ValueError, match=r"NUTS cannot sample the path 'flu\.path'"):
        mjp.fit(model, engine=NUTS(model))

    def small():
        mjp.sample("flu", outbreak(0.5, 0.5), max_jumps=-1)

    with pytest.raises(ValueError, match="max_jumps must be a positive integer, got -1"):
        mjp.fit(small)

    def odd():
        mjp.sample("flu", outbreak(0.5, 0.5), auxiliary="projected")

    with pytest.raises(ValueError, match=r"take max_jumps and max_events, got \['auxiliary'\]"):
        mjp.fit(odd)


def test_infections_that_the_mean_field_excludes():
    """Frozen at nobody infectious, and without infections from outside, the guide is wrong but not fatal."""
    process = mjp.InteractingJumps.sir(nx.path_graph(3), 1.0, 0.5)
    chain = mjp.chain(process, [0.0, 2.0], initial=["I", "S", "S"])
    chain.observe_each(mjp.Exactly(), [[None] * 3, [None, None, "I"]])
    contacts = nx.to_numpy_array(nx.path_graph(3))

    def rates(configuration, interval):
        into = np.zeros((3, 3))
        into[configuration == 0, 1] = (contacts @ (configuration == 1))[configuration == 0]
        into[configuration == 1, 2] = 0.5
        return into

    truth = EnumeratedInTime(
        3, 3, rates, np.eye(3)[[1, 0, 0]], [0.0, 2.0], lambda t, c: float(t == 0 or c[2] == 1)
    )
    nobody = jnp.zeros((9, 3), jnp.int32)
    found = mjp.evidence(chain, jax.random.key(0), 4000, auxiliary=nobody)
    assert abs(found.log_evidence - truth.log_evidence) < 4 * found.standard_error
    assert found.standard_error < 0.1


def test_a_step_with_too_little_room_is_reported():
    chain = observe(chain_of(external=20.0))
    with pytest.warns(UserWarning, match="give a larger max_events"):
        found = mjp.evidence(chain, jax.random.key(0), 20, max_events=2)
    assert found.overflow > 0


def test_a_start_that_does_not_fit_is_refused():
    """Even where the model has no parameters, whose kernel would notice."""

    def model():
        process = mjp.InteractingJumps.sis(nx.path_graph(2), 1.0, 1.0, external=1.0)
        rows = [["I", None] if i % 2 == 0 else ["S", None] for i in range(8)]
        chain = mjp.chain(process, range(8), initial=["I", "S"]).observe_each(mjp.Exactly(), rows)
        mjp.sample("flu", chain, max_jumps=3)

    with pytest.raises(ValueError, match=r"no path of positive probability.*larger max_jumps"):
        mjp.fit(model, draws=10, warmup=10, chains=1, progress=False)


def test_a_rate_beyond_its_bound_is_reported():
    rule = lambda near, at: {("a", "b"): 5.0 * jnp.exp(-((near["b"] - 1.0) ** 2)), ("b", "a"): 1.0}
    process = mjp.InteractingJumps(nx.path_graph(3), rule, ["a", "b"], bound=1.5)
    chain = mjp.chain(process, [0.0, 5.0], initial=["b", "a", "b"])
    with pytest.raises(ValueError, match="larger bound"):
        mjp.simulate(chain, jax.random.key(0))
    with pytest.warns(UserWarning, match="or bound"):
        found = mjp.evidence(chain, jax.random.key(0), 20)
    assert found.overflow > 0


# ---------------------------------------------------------------------------- slow: joint laws

NOISE = 0.5


def noisy(values):
    infection = numpyro.sample("infection", dist.LogNormal(-0.5, 0.7))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.7, 0.5))
    law = lambda state: dist.Normal(jnp.asarray(state, float), NOISE)
    chain = outbreak(infection, recovery, values, mjp.EachAgent(law))
    mjp.sample("flu", chain, max_jumps=16, max_events=128)


def functions(infection, recovery, value):
    times, states = unpack(value)
    nodes = states_at(times, states, jnp.tile(jnp.array([0.9, 2.0, 3.0]), (4, 1)))
    logs, jumps = jnp.log(jnp.stack([infection, recovery])), jnp.sum(states[:, 1:] != states[:, :-1])
    spans = jnp.diff(jnp.concatenate([value[:, :, 0], jnp.full((4, 1), 3.0)], axis=1), axis=1)
    sick = jnp.sum(jnp.where(states == 1, spans, 0.0))
    parts = [logs, logs**2, logs * sick, logs * jumps, nodes.reshape(-1) == 1]
    parts += [jnp.stack([jumps, jumps**2, sick, sick**2, times[1, 0]])]
    return jnp.concatenate([jnp.asarray(part, float) for part in parts])


@pytest.mark.slow
def test_geweke():
    """New data given the path, in turn with the kernel, leave the prior of parameters and path invariant."""
    blocks = [(IndividualUniformization(noisy), ["flu.path"]), (NUTS(noisy), ["infection", "recovery"])]
    kernel = Gibbs(blocks)
    state = kernel.init(jax.random.key(0), 0, None, (jnp.full((4, 4), 1.0),), {})
    nodes = jnp.tile(jnp.array([0.0, 1.0, 2.5, 3.0]), (4, 1))

    def draw_data(key, value):
        path = states_at(*unpack(value), nodes).T
        values = path + NOISE * jax.random.normal(key, path.shape)
        return jnp.where(np.arange(4)[:, None] % 2 == 1, values, jnp.nan)

    def step(state, key):
        state = kernel.sample(state, (draw_data(key, state.z["flu.path"]),), {})
        z = state.z
        overflow = state.block_states[0].overflow
        return state, (functions(jnp.exp(z["infection"]), jnp.exp(z["recovery"]), z["flu.path"]), overflow)

    keys = jax.random.split(jax.random.key(1), 30_000)
    chain, overflow = jax.jit(lambda s, k: lax.scan(step, s, k)[1])(state, keys)
    chain = np.asarray(chain)[1000:]
    assert np.mean(np.asarray(overflow) > 0) < 1e-3

    def prior(key):
        a, b, path_key = jax.random.split(key, 3)
        infection = jnp.exp(-0.5 + 0.7 * jax.random.normal(a))
        recovery = jnp.exp(-0.7 + 0.5 * jax.random.normal(b))
        value = AgentJumpLaw(outbreak(infection, recovery), 16, 64).sample(path_key)
        return functions(infection, recovery, value)

    truth = np.asarray(jax.jit(lambda k: lax.map(prior, k, batch_size=500))(keys))
    ess = np.array([effective_sample_size(column[None]) for column in chain.T])
    error = np.sqrt(truth.var(axis=0) / len(truth) + chain.var(axis=0) / ess)
    z = (chain.mean(axis=0) - truth.mean(axis=0)) / error
    assert np.all(ess > 300), ess
    assert np.all(np.abs(z) < 4), z


def ring(values):
    """Ten agents in continuous time, seen with errors at three times."""
    infection = numpyro.sample("infection", dist.LogNormal(-0.7, 0.5))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.5, 0.5))
    process = mjp.InteractingJumps.sir(nx.circulant_graph(10, [1, 2]), infection, recovery, external=0.05)
    chain = mjp.chain(process, [0.0, 1.0, 2.0, 4.0], initial=["I" if i % 5 == 0 else "S" for i in range(10)])
    recorded = jnp.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9]])
    chain.observe_each(mjp.EachAgent(lambda state: dist.Categorical(recorded[state])), np.zeros((4, 10)))
    with_values(chain, values)
    mjp.sample("epidemic", chain, max_events=100)
    return chain


@pytest.mark.slow
def test_ranks_of_the_rates_are_uniform():
    check_calibrated(ring, replications=64, bins=8, warmup=100, draws=465, thin=15)
