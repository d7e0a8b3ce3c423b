"""Interacting particles in NumPyro models: fits from end to end, joint-distribution tests, calibration."""

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import NUTS, Gibbs, Predictive
from particle_truth import Enumerated, sirs_step
from scipy.stats import chi2

import mjp
from mjp.inference import IndividualForwardBackward
from mjp.inference.agent_path_law import AgentPathLaw

TIMES = np.arange(5.0)
NETWORK = nx.path_graph(4)
SEEN = [
    [None] * 4,
    ["I", None, "S", None],
    [None] * 4,
    [None, "R", None, "S"],
    ["R", None, "I", None],
]


def epidemic(infection, recovery, network=NETWORK):
    return mjp.InteractingParticles.sirs(network, infection, recovery, 0.2, external=0.05)


def of_labels(infection, recovery, totals=None):
    chain = mjp.chain(epidemic(infection, recovery), TIMES, initial=["I", "S", "S", "S"])
    chain.observe_each(mjp.Exactly(), SEEN)
    if totals is not None:
        chain.observe_each(lambda x: dist.Poisson(x["I"] + 0.5), totals)
    return chain


def model(totals=None):
    infection = numpyro.sample("infection", dist.LogNormal(-0.5, 0.7))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.7, 0.5))
    mjp.sample("flu", of_labels(infection, recovery, totals))


@pytest.mark.filterwarnings("ignore:.*chains have not mixed")
def test_a_fit_from_end_to_end(tmp_path):
    """Observed by label and in total, so that a sweep goes through the agents one by one."""
    totals = np.array([np.nan, np.nan, 2.0, np.nan, 1.0])
    fit = mjp.fit(model, totals, draws=100, warmup=60, chains=2, progress=False)
    assert fit.engine == "forward-backward by agent, NUTS given paths"
    assert fit.samples["flu.path"].shape == (2, 100, 5, 4)
    assert fit.samples["flu.path"].dtype == np.int8
    assert list(fit.summary().index) == ["infection", "recovery"]
    data = fit.data
    assert data["paths"]["flu"].dims == ("chain", "draw", "time", "coordinate")
    assert data["observed_data"]["flu_0"].values[4].tolist()[::2] == [2.0, 1.0]  # R and I, by position
    assert data["log_likelihood"]["flu"].dims == ("chain", "draw", "time")
    assert float(data["sample_stats"]["paths_moved"].mean()) > 0.05
    paths = fit.paths("flu", np.array([0.5, 3.0]))
    assert paths.attrs["states"] == ["S", "I", "R"]
    assert np.all(paths.sel(time=0.5, coordinate=0) == 1)  # the first states hold until the next step
    assert np.all(paths.sel(time=3.0, coordinate=1) == 2)  # what was seen
    page = fit.report(tmp_path / "report.html").read_text()
    assert "Posterior probability of each state by agent and time" in page
    assert "4 agents with 6 directed contacts" in page
    assert "could not be made" not in page


def test_prior_predictive_paths():
    drawn = Predictive(model, num_samples=3)(jax.random.key(0))
    assert drawn["flu"].shape == (3, 5, 4)
    assert np.all(drawn["flu"][:, 0] == np.array([1, 0, 0, 0]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="sweeps must be a positive integer, got 0"):
        IndividualForwardBackward(model, sweeps=0)
    with pytest.raises(ValueError, match="takes one random key"):
        IndividualForwardBackward(model).init(jax.random.split(jax.random.key(0)), 0, None, (), {})

    def without_agents():
        numpyro.deterministic("a", 1.0)

    with pytest.raises(ValueError, match="model has no interacting particles"):
        IndividualForwardBackward(without_agents).init(jax.random.key(0), 0, None, (), {})
    with pytest.raises(ValueError, match=r"NUTS cannot sample the path 'flu\.path'"):
        mjp.fit(model, engine="nuts")

    def in_a_plate():
        with numpyro.plate("members", 3):
            mjp.sample("flu", of_labels(0.5, 0.5))

    with pytest.raises(ValueError, match="inside of the plates"):
        mjp.fit(in_a_plate)


def test_data_that_no_path_fits():
    """Nobody is infectious at first, and infections come from nowhere."""

    def impossible():
        infection = numpyro.sample("infection", dist.LogNormal(0.0, 1.0))
        process = mjp.InteractingParticles.sir(nx.path_graph(2), infection, 0.5)
        chain = mjp.chain(process, range(2), initial=["S", "S"])
        mjp.sample("flu", chain.observe_each(mjp.Exactly(), [None, ["I", None]]))

    with pytest.raises(ValueError, match="flu: no path of positive probability was found"):
        mjp.fit(impossible, draws=10, warmup=10, chains=1, progress=False)


# ------------------------------------------------------------------------------------- Geweke

NOISE = 0.5


def noisy(values):
    def law(state):
        return dist.Normal(jnp.asarray(state, float), NOISE)

    infection = numpyro.sample("infection", dist.LogNormal(-0.5, 0.7))
    recovery = numpyro.sample("recovery", dist.LogNormal(-0.7, 0.5))
    chain = mjp.chain(epidemic(infection, recovery), TIMES, initial=["I", "S", "S", "S"])
    mjp.sample("flu", chain.observe_each(mjp.EachAgent(law), values))


def functions(infection, recovery, path):
    path = path.astype(float)
    logs = jnp.log(jnp.stack([infection, recovery]))
    sick = jnp.sum(path == 1)
    found = [logs, logs**2, logs * sick, path[1:, 1:].reshape(-1) == 1, (path[4, 0] == path[4, 1])[None]]
    return jnp.concatenate([jnp.asarray(part, float) for part in [*found, jnp.stack([sick, sick**2])]])


@pytest.mark.slow
def test_geweke():
    """New data given the path, in turn with the kernel, leave the prior of parameters and path invariant."""
    blocks = [(IndividualForwardBackward(noisy), ["flu.path"]), (NUTS(noisy), ["infection", "recovery"])]
    kernel = Gibbs(blocks)
    unknown = jnp.full((5, 4), jnp.nan)
    state = kernel.init(jax.random.key(0), 0, None, (unknown + 1.0,), {})

    def draw_data(key, path):
        values = path + NOISE * jax.random.normal(key, path.shape)
        return jnp.where(np.arange(5)[:, None] % 2 == 1, values, jnp.nan)

    def step(state, key):
        state = kernel.sample(state, (draw_data(key, state.z["flu.path"]),), {})
        z = state.z
        return state, functions(jnp.exp(z["infection"]), jnp.exp(z["recovery"]), z["flu.path"])

    keys = jax.random.split(jax.random.key(1), 30_000)
    chain = np.asarray(jax.jit(lambda s, k: lax.scan(step, s, k)[1])(state, keys))[1000:]

    def prior(key):
        a, b, path_key = jax.random.split(key, 3)
        infection = jnp.exp(-0.5 + 0.7 * jax.random.normal(a))
        recovery = jnp.exp(-0.7 + 0.5 * jax.random.normal(b))
        law = AgentPathLaw(mjp.chain(epidemic(infection, recovery), TIMES, initial=["I", "S", "S", "S"]))
        return functions(infection, recovery, law.sample(path_key))

    truth = np.asarray(jax.jit(lambda k: lax.map(prior, k, batch_size=500))(keys))
    ess = np.array([effective_sample_size(column[None]) for column in chain.T])
    error = np.sqrt(truth.var(axis=0) / len(truth) + chain.var(axis=0) / ess)
    z = (chain.mean(axis=0) - truth.mean(axis=0)) / error
    assert np.all(ess > 300), ess
    assert np.all(np.abs(z) < 4), z


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*chains have not mixed")
def test_the_posterior_of_rates_is_that_of_enumeration():
    """Means and deviations on a grid of rates whose likelihood is enumerated, to 4 standard errors."""
    totals = np.array([np.nan, np.nan, 2.0, np.nan, 1.0])
    fit = mjp.fit(model, totals, draws=3000, warmup=500, chains=4, progress=False)
    contacts = nx.to_numpy_array(NETWORK)

    def likelihood(time, configuration):
        labels = ["SIR"[state] for state in configuration]
        value = float(all(x is None or x == y for x, y in zip(SEEN[time], labels, strict=True)))
        if not np.isnan(totals[time]):
            mean = np.sum(configuration == 1) + 0.5
            value *= np.exp(-mean) * mean ** totals[time] / [1, 1, 2][int(totals[time])]
        return value

    a, b = np.linspace(-3.3, 2.3, 25), np.linspace(-2.7, 1.3, 25)
    log = np.empty((25, 25))
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            step = sirs_step(contacts, np.exp(x), np.exp(y), 0.2, 0.05, 1.0)
            log[i, j] = Enumerated(4, 3, step, np.eye(3)[[1, 0, 0, 0]], 5, likelihood).log_evidence
            log[i, j] += -0.5 * ((x + 0.5) / 0.7) ** 2 - 0.5 * ((y + 0.7) / 0.5) ** 2
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    for name, shares, grid in (("infection", weights.sum(1), a), ("recovery", weights.sum(0), b)):
        draws = np.log(fit.samples[name])
        for power in (1, 2):
            values = draws**power
            error = values.std() / np.sqrt(effective_sample_size(values))
            assert abs(values.mean() - shares @ grid**power) < 4 * error


# -------------------------------------------------------------------------------- calibration

AGENTS, STEPS, SNAPSHOTS = 20, 5, 4
RECORDED = jnp.array([[0.96, 0.02, 0.02], [0.02, 0.96, 0.02], [0.02, 0.02, 0.96]])


def ring(infection, recovery, waning, values):
    process = mjp.InteractingParticles.sirs(
        nx.circulant_graph(AGENTS, [1, 2]), infection, recovery, waning, external=0.02
    )
    first = ["I" if i % 5 == 0 else "S" for i in range(AGENTS)]
    chain = mjp.chain(process, 2.0 * np.arange(SNAPSHOTS), initial=first, steps=STEPS)
    return chain.observe_each(mjp.EachAgent(lambda state: dist.Categorical(RECORDED[state])), values)


def snapshots(values):
    rates = [numpyro.sample(name, dist.LogNormal(m, 0.5)) for name, m in CENTRES.items()]
    mjp.sample("epidemic", ring(*rates, values))


CENTRES = {"infection": -0.7, "recovery": -0.5, "waning": -1.0}


@pytest.mark.slow
def test_simulation_based_calibration():
    """Ranks of the true rates of 20 agents, seen with errors at four times, are uniform (chi-squared)."""
    replicates, kept, thin = 96, 31, 30
    blocks = [(IndividualForwardBackward(snapshots), ["epidemic.path"]), (NUTS(snapshots), list(CENTRES))]
    kernel = Gibbs(blocks)
    kernel.init(jax.random.key(0), 300, None, (jnp.full((SNAPSHOTS, AGENTS), 0.0),), {})

    def one(key):
        truth_key, path_key, start_key = jax.random.split(key, 3)
        truth = jnp.array(list(CENTRES.values())) + 0.5 * jax.random.normal(truth_key, (3,))
        blank = jnp.zeros((SNAPSHOTS, AGENTS))
        values = mjp.simulate(ring(*jnp.exp(truth), blank), path_key).observations[0].astype(float)
        state = kernel.init(start_key, 300, None, (values,), {})
        advance = lambda state, n: lax.fori_loop(0, n, lambda _, s: kernel.sample(s, (values,), {}), state)
        state = advance(state, 300)

        def keep(state, _):
            state = advance(state, thin)
            return state, jnp.stack([state.z[name] for name in CENTRES])

        _, drawn = lax.scan(keep, state, length=kept)
        return jnp.sum(drawn < truth, axis=0)

    ranks = np.asarray(
        jax.jit(lambda keys: lax.map(one, keys))(jax.random.split(jax.random.key(3), replicates))
    )
    for column in ranks.T:
        counts = np.bincount(column // 4, minlength=8)  # 32 ranks in 8 bins
        expected = replicates / 8
        assert np.sum((counts - expected) ** 2 / expected) < chi2.ppf(0.999, 7), counts


# ------------------------------------------------------------------------- a hundred agents


@pytest.fixture
def single_precision():
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.slow
@pytest.mark.usefixtures("single_precision")
def test_an_epidemic_of_a_hundred_agents():
    """The setting of van der Meulen & Schauer (arXiv 2010.03509): ten full snapshots, 49 steps apart.

    Chains that agree, and the rates of the simulation inside of the 99% intervals. Rates and paths hold each
    other, that of infection most: it is correlated over some fifty iterations, of which every fifth is kept.
    """
    n, truth = 100, {"infection": 2.5, "recovery": 0.6, "waning": 0.1}
    network = nx.Graph()
    network.add_nodes_from(range(n))
    network.add_edges_from((i, j) for i in range(n) for j in (i + 1, i + 2) if j < n)
    first = ["I" if i in (9, 24, 39, 54, 69, 84, 94) else "S" for i in range(n)]

    def graph(rates, values):
        process = mjp.InteractingParticles.sirs(network, *rates, external=-np.log(0.999) / 0.1)
        chain = mjp.chain(process, 4.9 * np.arange(10), initial=first, steps=49)
        return chain.observe_each(mjp.Exactly(), values)

    drawn = mjp.simulate(graph(truth.values(), None), jax.random.key(3))
    seen = np.array(["S", "I", "R"])[np.asarray(drawn.values)]

    def line(seen):
        means = {"infection": 5.0, "recovery": 5.0, "waning": 1.0}
        rates = [numpyro.sample(name, dist.Exponential(1 / mean)) for name, mean in means.items()]
        mjp.sample("epidemic", graph(rates, seen))

    fit = mjp.fit(line, seen, draws=3000, warmup=1000, thinning=5, chains=4, progress=False)
    for name, value in truth.items():
        draws = fit.samples[name]
        assert split_gelman_rubin(draws) < 1.01
        low, high = np.quantile(draws, [0.005, 0.995])
        assert low < value < high
