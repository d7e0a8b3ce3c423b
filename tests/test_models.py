"""The ready models: their data, their likelihoods against other people's software, and their priors.

Figures of msm are from the R package msm 1.7, those of phytools from the R package phytools 1.5-1, and those
of the Poisson hidden Markov models agree with Zucchini and MacDonald's book.
"""

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from numpyro.handlers import seed, trace
from numpyro.infer.util import log_density
from scipy import stats

import mjp
from mjp.models import (
    MODELS,
    anole_sizes,
    anoles,
    cav,
    earthquakes,
    get,
    hagelloch,
    heston,
    influenza,
    ion_channel,
    lasers,
    lynx_hare,
    lynx_hare_counts,
    maximise,
    neuron,
    nile,
    psor,
    regimes,
    sp500,
)
from mjp.models.series import Series
from mjp.models.tables import in_words
from mjp.numpyro_bridge import graphs_of, has_agent_path, has_agents, structure
from mjp.processes import is_vector

VILLAGE = "PN,HN,CL,PRO,ERU,DEAD\n"


@pytest.fixture(scope="module")
def visits():
    return cav.load()


def log_likelihood(graph, *parameters):
    """Log-likelihood of the graph at these parameters; compiled whole, which is faster than in pieces."""
    run = jax.jit(lambda values: mjp.condition(graph(*values)).log_evidence.sum())
    return float(run([jnp.asarray(value) for value in parameters]))


# Data


def test_cav_data(visits):
    assert (visits.n_subjects, visits.n_rows) == (622, 2846)
    labels, counts = np.unique(visits.states.astype(str), return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {
        "dead": 251,
        "mild": 351,
        "severe": 205,
        "well": 2039,
    }
    assert set(visits.states[visits.is_first]) == {"well"}
    assert list(cav.load(covariates=["sex"]).covariates) == ["sex"]


def test_psor_data():
    panel, whole = psor.load(), psor.load(covariates=False)
    assert (panel.n_subjects, panel.n_rows, panel.n_dropped) == (271, 720, 86)
    assert (whole.n_subjects, whole.n_rows) == (305, 806)
    assert set(whole.states) == set(psor.STATES)
    assert list(panel.covariates) == ["hieffusn", "ollwsdrt"]


def test_earthquake_data():
    data = earthquakes.load()
    assert data.years.tolist() == list(range(1900, 2007))
    assert (data.counts[0], data.counts.max(), data.counts.sum()) == (13, 41, 2072)


def test_anole_data():
    data = anoles.load()
    assert len(data.ecomorph) == 82
    assert set(data.ecomorph.values()) == set(anoles.STATES)
    graph = anoles.evolution(0.05, data)
    assert set(graph.leaves) == set(data.ecomorph)


def test_nile_data():
    data = nile.load()
    assert data.times.tolist() == list(range(1871, 1971))
    assert (data.values[0], data.values.min(), data.values.sum()) == (1120, 456, 91935)


def test_sp500_data():
    data, whole = sp500.load(), sp500.load(last=None)
    assert (len(data.values), len(data.days), len(whole.values)) == (750, 751, 5030)
    assert data.days[-1] == "12/31/2018"
    assert whole.values.mean() == pytest.approx(0.0, abs=1e-12)
    table = sp500.table(data, data.values)
    np.testing.assert_allclose(100 * np.diff(np.log(table["Adj Close"])), data.values, atol=1e-10)


def test_the_variance_of_returns_keeps_its_long_run_law():
    data = sp500.Returns(np.arange(201).astype(str), None)
    graph = heston.variance(0.8, 0.1, 2.0, data)
    keys = jax.random.split(jax.random.key(0), 1000)
    last = np.asarray(jax.jit(jax.vmap(lambda key: mjp.simulate(graph, key).values[-1, 0]))(keys))
    assert stats.kstest(last, stats.gamma(2.0, scale=0.4).cdf).pvalue > 1e-3


def test_lynx_and_hare_data():
    data = lynx_hare.load()
    assert data.times.tolist() == list(range(1900, 1921))
    assert data.values[0].tolist() == [30.0, 4.0]


def test_influenza_data():
    data = influenza.load()
    assert data.times.tolist() == list(range(1, 15))
    assert (data.values[0], data.values.max(), data.values.sum()) == (3, 298, 1559)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("date,in_bed\n1978-01-22,3.5\n", "must hold integers from 0 to 763"),
        ("date,in_bed\n1978-01-22,3\n1978-01-22,4\n", "the date 1978-01-22 occurs twice"),
        ("date,in_bed\nJanuary,3\n", "must hold dates such as 1978-01-22"),
    ],
)
def test_influenza_data_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        influenza.load(path)


def test_influenza_simulations_are_like_the_outbreak():
    data = influenza.load()
    graph = influenza.epidemic(1.7, 0.45, 0.05, data)
    draws = mjp.simulate(graph, jax.random.key(0), replicates=400, paths=False)
    assert np.all(draws.values.sum(-1) == influenza.BOYS)
    peak = np.asarray(draws.values[..., 1].max(axis=1))
    outbreaks = peak > 50
    # one infected boy starts an outbreak with a probability near 1 - recovery / contact
    assert abs(outbreaks.mean() - (1 - 0.45 / 1.7)) < 0.1
    assert 200 < np.median(peak[outbreaks]) < 400
    assert draws.observations[0].shape == (400, 15)


def test_lynx_and_hare_counts_follow_the_equations_of_the_diffusion():
    data = lynx_hare_counts.load()
    graph = lynx_hare_counts.populations((0.55, 0.026, 0.024, 0.77), jnp.full(2, 0.1), data)
    network = graph.edges[0].process
    hare, lynx = 30.0, 4.0
    drift = network.propensities(0.0, jnp.array([60, 8])) @ network.stoichiometry / 2
    expected = [hare * (0.55 - 0.026 * lynx), lynx * (0.024 * hare - 0.77)]
    np.testing.assert_allclose(drift, expected, rtol=1e-6)
    start = Series(data.times[:3], data.values[:3])
    graph = lynx_hare_counts.populations((0.55, 0.026, 0.024, 0.77), jnp.full(2, 0.1), start)
    draws = mjp.simulate(graph, jax.random.key(1), replicates=20, paths=False)
    assert draws.observations[0].shape == (20, 3, 2)
    assert np.all(np.isfinite(draws.observations[0]))


@pytest.mark.parametrize(
    ("module", "model", "site"),
    [(influenza, "outbreak", "epidemic"), (lynx_hare_counts, "predation_events", "numbers")],
)
def test_models_of_counts_declare_their_graphs(module, model, site):
    data = module.load()
    parameters = {"birth": 0.5, "predation": 0.03, "growth": 0.03, "death": 0.8, "error": jnp.full(2, 0.1)}
    if module is influenza:
        parameters = {"contact": 1.7, "recovery": 0.45, "overdispersion": 0.1}
    graph = graphs_of(getattr(module, model), (data,), {}, parameters)[site]
    assert graph.n_times == len(data.times) + (module is influenza)


def test_anole_sizes_data():
    data = anole_sizes.load()
    assert len(data.log_size) == 82
    assert set(anole_sizes.wandering(0.02, data).leaves) == set(data.log_size)


def test_the_neurons_data_are_what_it_generates():
    data, again = neuron.load(), neuron.generate(seed=3)
    np.testing.assert_array_equal(data.times, again.times)
    np.testing.assert_allclose(data.values, again.values, atol=1e-6)


def test_lasers_data():
    data = lasers.load()
    assert data.units == tuple(range(1, 16))
    assert data.hours.tolist() == list(range(0, 4001, 250))
    assert (data.increase[0, -1], data.increase[9, -1]) == (10.94, 12.21)
    assert np.flatnonzero(data.increase[:, -1] > lasers.FAILURE).tolist() == [0, 5, 9]
    later = data.until(5000)
    assert later.hours[-1] == 5000
    assert np.isnan(later.increase[:, 17:]).all()
    assert lasers.Degradation(data.units, data.hours, None).until(5000).increase is None
    with pytest.raises(ValueError, match="hours must be later than the last reading at 4000, got 4000"):
        data.until(4000)


def test_a_table_of_lasers_comes_back(tmp_path):
    data = lasers.load()
    columns = lasers.table(data, data.increase)
    path = tmp_path / "lasers.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [tuple(columns), *rows]))
    np.testing.assert_array_equal(lasers.load(path).increase, data.increase)


def test_hagelloch_data(tmp_path):
    data = hagelloch.load()
    assert (len(data.children), data.days, data.first.sum()) == (188, 94, 1)
    networks = data.networks()
    assert networks["classroom"].number_of_edges() == 68 * 67 // 2 + 30 * 29 // 2
    assert networks["household"].number_of_edges() == 329
    assert np.all(data.status[-1] == "removed")
    assert hagelloch.outbreak(0.1, 0.1, 0.01, 10.0, 8.0, data).draw() is not None
    assert data.status[0, data.children.index(184)] == "ill"
    # prodrome on 27 November and eruption on the 29th; prodrome on 5 December, dead on the 9th
    for child, begin, end in ((41, "1861-11-26", "1861-12-01"), (142, "1861-12-04", "1861-12-08")):
        days = np.flatnonzero(data.status[:, data.children.index(child)] == "ill")
        dates = pd.Timestamp("1861-10-29") + pd.to_timedelta(days[[0, -1]], unit="D")
        assert dates.astype(str).tolist() == [begin, end]
    columns = hagelloch.table(data, np.vectorize(hagelloch.SEEN.index)(data.status))
    pd.DataFrame(columns).to_csv(tmp_path / "village.csv", index=False)
    again = hagelloch.load(tmp_path / "village.csv")
    np.testing.assert_array_equal(again.status, data.status)


def test_likelihood_of_hagelloch_is_a_product_over_children():
    """Who infects when is known, so that each child is a hidden Markov chain: no weight is left."""
    data = hagelloch.load()
    household, classroom, community, latent, infectious = 0.06, 0.03, 0.004, 9.0, 7.0
    guided = mjp.condition(hagelloch.outbreak(household, classroom, community, latent, infectious, data))
    ill = (data.status == "ill").astype(float)
    weights = [nx.to_numpy_array(network) for network in data.networks().values()]
    force = community + ill @ (household * weights[0] + classroom * weights[1])
    k, total = len(hagelloch.STATES), 0.0
    shown = np.array(["well"] * (k - 2) + ["ill", "removed"])
    for child in range(len(data.children)):
        before = [0.99, *[0.0025] * 4, 0.0, 0.0]
        law = np.eye(k)[k - 2] if data.first[child] else np.array(before)
        for day in range(data.days - 1):
            leaves = np.array([force[day, child], *[4 / latent] * 4, 1 / infectious, 0.0])
            p = 1 - np.exp(-leaves)
            law = law * (1 - p) + np.append(0.0, (law * p)[:-1])
            law = law * (shown == data.status[day + 1, child])
        total += np.log(law.sum())
    np.testing.assert_allclose(guided.log_evidence, total, rtol=1e-9)
    np.testing.assert_allclose(guided.sample(jax.random.key(0))[1], 0.0, atol=1e-7)


def test_ion_channel_data(tmp_path):
    data, (lengths, is_open) = ion_channel.load(), ion_channel.durations()
    assert (len(data.times), len(lengths)) == (2000, 2000)
    assert data.values[:6].tolist() == ["shut", "shut", "shut", "open", "open", "shut"]
    assert lengths[is_open].mean() == pytest.approx(20.107, abs=1e-3)
    states = (data.values == "open").astype(int)
    columns = ion_channel.table(data, states)
    path = tmp_path / "channel.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join(",".join(map(str, row)) for row in [tuple(columns), *rows]))
    assert ion_channel.load(path).values.tolist() == data.values.tolist()


def test_a_users_own_table(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("PTNUM,years,state\na,0,1\na,1.5,mild\nb,0,well\nb,2,\n")
    panel = cav.load(path)
    assert panel.states.tolist() == ["well", "mild", "well", None]


@pytest.mark.parametrize(
    ("load", "text", "message"),
    [
        (cav.load, "PTNUM,state\n1,1\n", "has no column 'years'; its columns are 'PTNUM', 'state'"),
        (
            cav.load,
            "PTNUM,years,state\n1,0,1\n1,1,7\n",
            r"row 1 holds the state 7; expected one of 1 \(well\)",
        ),
        (earthquakes.load, "year,count\n1900,3\n1902,4\n", "the years 1900 and 1902 follow each other"),
        (anoles.load, "species,ecomorph\nahli,TG\nahli,TG\n", "the species 'ahli' is named twice"),
        (anole_sizes.load, "species,SVL\nahli,4\nahli,4\n", "the species 'ahli' is named twice"),
        (nile.load, "year,flow\n1900,3\n1902,4\n", "the years 1900 and 1902 follow each other"),
        (nile.load, "year,flow\n1900,3\n1900,4\n", "the year 1900 occurs twice"),
        (sp500.load, "Date,Adj Close\na,3\nb,0\n", "row 1 has the value 0; expected positive"),
        (lynx_hare.load, "year,hare_thousands,lynx_thousands\n1,0,1\n", "expected positive numbers of pelts"),
        (neuron.load, "time,v\n0,1\n", "has no column 'potential'"),
        (ion_channel.load, "interval_ms,amplitude\n3,0\n0,5\n", "row 1 has the duration 0; expected"),
        (hagelloch.load, VILLAGE + "1,1,a,1861-11-01,,\n1,1,a,,,\n", "child 1 has several rows"),
        (hagelloch.load, VILLAGE + "1,1,a,1 Nov,,\n", "'PRO' must hold dates such as 1861-10-30"),
        (hagelloch.load, VILLAGE + "1,1,a,,,\n", "'PRO' holds no date"),
        (hagelloch.load, VILLAGE + "1,1,a,1861-11-09,,1861-11-08\n", "child 1 is removed before it is ill"),
        (lasers.load, "unit,hours,increase\n1,0,0\n1,0,1\n", "unit 1 has 2 rows at 0 hours"),
        (lasers.load, "unit,hours,increase\na,0,0\na,1,1\nb,0,0\n", "unit b has 1 rows, others have 2"),
        (lasers.load, "unit,hours,increase\n1,1,1\n1,2,2\n", "expected an increase of 0 at 0 hours"),
        (lasers.load, "unit,hours,increase\na,0,0\na,5,1\na,9,1\n", "unit a does not increase at 9 hours"),
        (anoles.load, "species,ecomorph\nahli,XX\n", r"'XX'; expected one of CG \(crown-giant\)"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, load, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_missing_states_stay_missing():
    assert in_words([1.0, float("nan"), None], {1: "one"}) == ["one", None, None]


def test_every_data_file_is_documented():
    folder = files("mjp.models") / "data"
    text = (folder / "README.md").read_text()
    names = [item.name for item in folder.iterdir() if item.name != "README.md"]
    assert len(names) == 18
    assert not [name for name in names if f"`{name}`" not in text]


# Likelihoods at fixed parameters


def test_cav_likelihood_is_msms(visits):
    value = log_likelihood(lambda q: cav.disease(q, visits), [0.13, 0.04, 0.22, 0.35, 0.045, 0.12, 0.31])
    assert -2 * value == pytest.approx(3969.41817599557, rel=1e-8)


def test_misclassified_likelihood_is_msms(visits):
    def graph(rate, well_as_mild, mild_as, severe_as_mild):
        return cav.misread_disease(rate, cav.misreading(well_as_mild, mild_as, severe_as_mild), visits)

    value = log_likelihood(graph, [0.148, 0.0171, 0.202, 0.081, 0.126], 0.1, [0.1, 0.8, 0.1], 0.1)
    assert -2 * value == pytest.approx(4165.84711809003, rel=1e-8)


@pytest.mark.parametrize(
    ("rate", "transition", "expected"),
    [
        ([15.0, 26.0], [[0.93, 0.07], [0.12, 0.88]], -342.5949933600824),
        (
            [13.0, 20.0, 30.0],
            [[0.95, 0.03, 0.02], [0.05, 0.9, 0.05], [0.01, 0.19, 0.8]],
            -329.6622231968099,
        ),
    ],
)
def test_earthquake_likelihood(rate, transition, expected):
    data = earthquakes.load()
    value = log_likelihood(lambda rate, move: earthquakes.activity(rate, move, data), rate, transition)
    assert value == pytest.approx(expected, rel=1e-8)


def test_likelihood_of_calm_and_wild_days():
    """Against Hamilton's filter (1989), written out."""
    data = regimes.load(last=300)
    drift, dispersion, rate = np.array([0.08, -0.1]), np.array([0.5, 1.6]), np.array([0.03, 0.05])
    total = rate.sum()
    law = rate[::-1] / total
    decay = np.exp(-total)
    move = law + decay * (np.eye(2) - law)
    expected = 0.0
    for value in data.values:
        density = np.exp(-0.5 * ((value - drift) / dispersion) ** 2) / dispersion / np.sqrt(2 * np.pi)
        expected += np.log(law @ density)
        law = (law * density / (law @ density)) @ move
    found = log_likelihood(lambda *values: regimes.index(*values, data), drift, dispersion, rate)
    assert found == pytest.approx(expected, rel=1e-9)
    table = regimes.table(data, np.append(0.0, data.values.cumsum()))
    np.testing.assert_allclose(100 * np.diff(np.log(table["Adj Close"])), data.values, atol=1e-10)


def test_likelihood_of_an_ion_channel():
    """Against a forward recursion with the transition probabilities of two states, written out."""
    data = ion_channel.load(looks=200)
    rate, error = np.array([0.02, 0.05]), 0.01
    law = rate[::-1] / rate.sum()
    move = law + np.exp(-rate.sum() * ion_channel.GAP) * (np.eye(2) - law)
    expected = 0.0
    for value in data.values:
        chance = np.where(np.array(ion_channel.STATES) == value, 1.0 - error, error)
        expected += np.log(law @ chance)
        law = (law * chance / (law @ chance)) @ move
    found = log_likelihood(lambda *values: ion_channel.gating(*values, data), rate, error)
    assert found == pytest.approx(expected, rel=1e-9)


def test_likelihood_of_lasers_is_that_of_their_increments():
    data = lasers.load()
    wear = np.linspace(1.5, 3.0, 15)
    guided = mjp.condition(lasers.ageing(wear, 30.0, data))
    terms = stats.gamma.logpdf(np.diff(data.increase, axis=1), 30.0 / 4, scale=wear[:, None] / 30.0)
    assert guided.exact
    np.testing.assert_allclose(guided.log_evidence, terms.sum(axis=1), rtol=1e-9, atol=1e-9)


def test_anole_likelihood_is_phytools():
    data = anoles.load()
    value = jax.jit(lambda rate: mjp.condition(anoles.evolution(rate, data)).log_evidence)
    assert float(value(0.05)) == pytest.approx(-86.0991266156048, rel=1e-8)
    best = 0.0231414184972787
    assert float(value(best)) == pytest.approx(-79.8378155942222, rel=1e-8)
    assert max(value(0.99 * best), value(1.01 * best)) < value(best)


def test_anole_size_likelihood_is_phytools():
    reference = json.loads((Path(__file__).parent / "reference" / "phylo_bm.json").read_text())
    data, found = anole_sizes.load(), reference["bm_mle"]
    value = anole_sizes.log_likelihood(found["sigma2"], data, found["x0"])
    assert float(value) == pytest.approx(found["loglik"], rel=1e-8)


@pytest.mark.slow
def test_guides_of_the_ready_models_are_good():
    data = sp500.load(last=100)
    found = mjp.evidence(sp500.volatility(0.97, -0.5, 0.25, data), jax.random.key(0), 500)
    assert float(found.ess) > 50
    still = sp500.Returns(data.days, np.append(0.0, data.values[1:]))
    assert np.isfinite(mjp.condition(sp500.volatility(0.97, -0.5, 0.25, still)).log_evidence)
    pelts = lynx_hare.populations((0.55, 0.026, 0.024, 0.77), jnp.full(2, 0.15), 0.1, lynx_hare.load())
    assert float(mjp.evidence(pelts, jax.random.key(0), 500).ess) > 150


# Maxima


def test_nile_maximum_is_that_of_durbin_and_koopman():
    data = nile.load()
    best = maximise(lambda x: nile.log_likelihood(x, data), np.array([9.0, 7.0]))
    np.testing.assert_allclose(np.exp(best.estimate), [15099.0, 1469.1], rtol=1e-3)
    # with the first level Normal(0, 10^7), as state-space software does for a diffuse one
    assert best.value == pytest.approx(-641.5855783, abs=1e-6)


def test_cav_maximum_is_msms(visits):
    best = maximise(lambda x: cav.log_likelihood(x, visits), np.full(7, -2.0))
    assert -2 * best.value == pytest.approx(3968.79788120822, abs=1e-6)
    msm = [
        0.127874288248772,
        0.0424852529023311,
        0.22510107981638,
        0.342594097717531,
        0.040268111431168,
        0.130624022061312,
        0.306458028023881,
    ]
    np.testing.assert_allclose(np.exp(best.estimate), msm, rtol=1e-3)


def test_psor_maximum_is_msms():
    whole = psor.load(covariates=False)
    best = maximise(lambda x: psor.log_likelihood(x, whole), np.full(3, -2.0))
    assert -2 * best.value == pytest.approx(1246.01528045917, abs=1e-6)
    msm = [0.0912459386268804, 0.157159662304328, 0.25982152823507]
    np.testing.assert_allclose(np.exp(best.estimate), msm, rtol=1e-3)


def test_psor_maximum_with_covariates_is_msms():
    panel = psor.load()
    best = maximise(lambda x: psor.log_likelihood(x, panel), np.array([-2.0, -2.0, -2.0, 0.0, 0.0, 0.0]))
    assert -2 * best.value == pytest.approx(1114.89946114892, abs=1e-6)
    rates = [0.105327778828385, 0.180391673929764, 0.200793280713352]
    ratios = [1.64597629886436, 0.565191710645524, 1.64082543544534]  # hazard ratios
    np.testing.assert_allclose(np.exp(best.estimate), rates + ratios, rtol=1e-3)


def test_earthquake_maximum():
    data = earthquakes.load()
    start = np.array([np.log(13.0), -1.0, -1.0, *[-2.0] * 6])
    best = maximise(lambda x: earthquakes.log_likelihood(x, data), start)
    assert -best.value == pytest.approx(329.4602766187225, abs=1e-5)
    rate = np.exp(best.estimate[0] + np.cumsum([0.0, *np.exp(best.estimate[1:3])]))
    np.testing.assert_allclose(rate, [13.14574447632228, 19.721055413861258, 29.71444780454941], rtol=1e-3)
    assert np.all(np.diff(rate) > 0)
    transition = earthquakes.transition_of(best.estimate[3:], 3)
    expected = [[0.95462, 0.02444, 0.02093], [0.04977, 0.89937, 0.05087], [0.0, 0.19664, 0.80336]]
    np.testing.assert_allclose(transition, expected, atol=1e-4)


def test_maximise_refuses_what_has_no_maximum():
    with pytest.raises(RuntimeError, match="no maximum found"):
        maximise(lambda x: jnp.abs(x).sum() + jnp.sqrt(1e6 + x @ x), np.array([1.0, 2.0]))


def test_maximise_works_in_float64_by_itself():
    best = maximise(lambda x: 1e8 - jnp.sum((x - 1 / 3) ** 2), np.zeros(2))
    assert best.estimate == pytest.approx([1 / 3, 1 / 3], abs=1e-4)
    assert best.value == pytest.approx(1e8, abs=1e-6)


# Models


@pytest.fixture
def parameters(monkeypatch):
    """Draws the sites of a model from its prior, without the path."""
    monkeypatch.setattr(mjp, "sample", lambda name, graph, **options: None)

    def draw(model, *args, **kwargs):
        sites = {}

        def run(key):
            sites.update(trace(seed(model, key)).get_trace(*args, **kwargs))
            return {name: site["value"] for name, site in sites.items()}

        values = jax.jit(run)(jax.random.key(1))
        monkeypatch.undo()
        return sites, values

    return draw


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_a_finite_density(name, parameters):
    entry = get(name)
    data = entry.load()
    sites, values = parameters(entry.model, data)
    drawn = {key: values[key] for key, site in sites.items() if site["type"] == "sample"}
    for key, site in structure(entry.model, (data,), {}, jax.random.key(0)).items():
        if key.endswith(".innovations"):
            drawn[key] = jnp.zeros_like(site["value"])
        elif key.endswith((".path", ".roots")):
            drawn[key] = site["value"]
            graph = graphs(entry, data)
            if has_agents(graph):
                path = mjp.condition(graph).sample(jax.random.key(2))[0].path_values
                drawn[key] = path.reshape(site["value"].shape)
    assert np.isfinite(jax.jit(lambda x: log_density(entry.model, (data,), {}, x)[0])(drawn))
    coords, dims = entry.settings["coords"], entry.settings["dims"]
    for key, site in sites.items():
        if site["type"] == "plate":
            continue
        axes = dims.get(key, site.get("infer", {}).get("event_dims", []))
        assert values[key].shape == tuple(len(coords[axis]) for axis in axes)


def graphs(entry, data):
    return graphs_of(entry.model, (data,), {}, {})[entry.graph_site]


@pytest.mark.parametrize(
    "name", [name if name == "cav" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_a_model_draws_its_path(name):
    entry = get(name)
    data = entry.load()

    def draw(key):
        sites = trace(seed(entry.model, key)).get_trace(data)
        return sites[entry.graph_site]["value"], sites[entry.graph_site + ".log_likelihood"]["fn"].log_factor

    states, value = jax.jit(draw)(jax.random.key(1))
    assert np.isfinite(states).all() if is_vector(graphs(entry, data)) else states.min() == 0
    if has_agent_path(graphs(entry, data)):  # drawn from its law, which what was seen exactly need not fit
        assert not np.isnan(value).any()
    else:
        assert np.isfinite(value).all()


def test_rates_of_the_regimes_are_ordered(parameters):
    rate = parameters(earthquakes.seismicity, earthquakes.load(), m=4)[1]["rate"]
    assert rate.shape == (4,)
    assert np.all(np.diff(rate) > 0)
    with pytest.raises(ValueError, match="m must be at least 2, got 1"):
        earthquakes.seismicity(earthquakes.load(), m=1)


def test_stationary_law():
    transition = jnp.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 0.6, 0.4]])
    law = earthquakes.stationary(transition)
    np.testing.assert_allclose(law @ transition, law, rtol=1e-12)
    assert float(law.sum()) == pytest.approx(1.0)


def test_an_unknown_model_is_refused():
    assert get("lynx_hare") is get("lynx-hare")
    with pytest.raises(
        ValueError, match="there is no model 'cavv'; the models are cav, cav-misclassified, psor"
    ):
        get("cavv")


def test_importing_the_models_loads_nothing_slow():
    code = "import sys, mjp.models; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {"pandas", "arviz", "arviz_base", "matplotlib", "scipy.optimize"}
