"""Log-likelihoods equal those of other people's software, and gradients equal finite differences."""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import mjp
from mjp.newick import parse_newick

pytestmark = pytest.mark.usefixtures("quick_compilation")

HERE = Path(__file__).parent
DATA = HERE.parent / "mjp" / "models" / "data"
RELATIVE = 1e-8


@cache
def reference(name):
    return json.loads((HERE / "reference" / f"{name}.json").read_text())


def log_evidence(build, *parameters):
    """The log-evidence of the graph that `build` makes, compiled as a whole, which is the faster way."""
    return jax.jit(lambda *p: mjp.condition(build(*p)).log_evidence)(*parameters)


def by_subject(panel, table):
    """The reference's log-likelihoods in the order of the panel's subjects; it leaves out those seen once."""
    known = dict(zip(map(int, table["subject"]), table["loglik"], strict=True))
    return np.array([known.get(int(subject), 0.0) for subject in panel.subjects])


# Panels: R's msm

CAV_STATES = [1, 2, 3, 4]
DEATH = mjp.Exactly(entry=4)


@cache
def cav():
    frame = pd.read_csv(DATA / "cav.csv")
    return mjp.Panel.from_frame(frame, subject="PTNUM", time="years", state="state", covariates=["sex"])


def cav_evidence(rates, observe, initial=None, breaks=()):
    def graph():
        process = mjp.MarkovJump(rates, CAV_STATES, breaks=breaks)
        return mjp.panel(process, cav(), observe=observe, initial=initial)

    return log_evidence(graph)


def misclassified():
    return mjp.Misclassified(reference("msm_cav")["fixed_misc_obstrue"]["E"], entry=4)


def first(*probs):
    return dist.Categorical(jnp.array(probs))


def sex_effect():
    baseline = jnp.array(reference("msm_cav")["fixed_sex"]["Q_baseline"])
    return lambda c: baseline * jnp.exp(0.3 * c["sex"])


def pieces():
    fixed = reference("msm_cav")["fixed_pci5"]
    return [fixed["Q_before"], fixed["Q_after"]]


def rates(name):
    return lambda: np.array(reference("msm_cav")[name]["Q"])


CAV = {
    "fixedQ_deathexact": (rates("fixedQ_deathexact"), lambda: DEATH, {}),
    "fixedQ_panel_only": (rates("fixedQ_panel_only"), mjp.Exactly, {}),
    "fixedQ_obstype2": (rates("fixedQ_obstype2"), lambda: mjp.Exactly(transitions=True), {}),
    "fixedQ2_deathexact": (rates("fixedQ2_deathexact"), lambda: DEATH, {}),
    "fixed_sex": (sex_effect, lambda: DEATH, {}),
    "fixed_pci5": (pieces, lambda: DEATH, {"breaks": [5.0]}),
    "fixed_misc_obstrue": (rates("fixed_misc_obstrue"), misclassified, {}),
    "fixed_misc_init1": (rates("fixed_misc_obstrue"), misclassified, {"initial": (1.0, 0.0, 0.0, 0.0)}),
    "fixed_misc_init721": (rates("fixed_misc_obstrue"), misclassified, {"initial": (0.7, 0.2, 0.1, 0.0)}),
}


@pytest.mark.parametrize("name", CAV)
def test_cav_agrees_with_msm(name):
    process, observe, options = CAV[name]
    options = {k: first(*v) if k == "initial" else v for k, v in options.items()}
    evidence = cav_evidence(process(), observe(), **options)
    fixed = reference("msm_cav")[name]
    assert evidence.shape == (cav().n_subjects,)
    assert -2 * float(evidence.sum()) == pytest.approx(fixed["minus2loglik"], rel=RELATIVE)
    if "by_subject" in fixed:
        np.testing.assert_allclose(
            evidence, by_subject(cav(), fixed["by_subject"]), rtol=RELATIVE, atol=1e-10
        )


def psor(covariates=(), drop_missing=False):
    frame = pd.read_csv(DATA / "psor.csv")
    columns = {"subject": "ptnum", "time": "months", "state": "state", "covariates": covariates}
    return mjp.Panel.from_frame(frame, **columns, drop_missing=drop_missing)


def test_psor_agrees_with_msm_subject_by_subject():
    fixed = reference("msm_psor")["fixedQ"]
    panel = psor()
    process = mjp.MarkovJump(np.array(fixed["Q"]), CAV_STATES)
    evidence = log_evidence(lambda: mjp.panel(process, panel, observe=mjp.Exactly()))
    np.testing.assert_allclose(evidence, by_subject(panel, fixed["by_subject"]), rtol=RELATIVE, atol=1e-10)
    assert -2 * float(evidence.sum()) == pytest.approx(fixed["minus2loglik"], rel=RELATIVE)


def test_psor_with_covariates_agrees_with_msm():
    fixed = reference("msm_psor")["fixed_cov"]
    effusions, sedimentation = fixed["hieffusn"], fixed["ollwsdrt"]

    def hazard(c):
        return {
            (k + 1, k + 2): 0.1 * jnp.exp(effusions[k] * c["hieffusn"] + sedimentation[k] * c["ollwsdrt"])
            for k in range(3)
        }

    panel = psor(["hieffusn", "ollwsdrt"], drop_missing=True)
    evidence = log_evidence(lambda: mjp.panel(mjp.MarkovJump(hazard), panel, observe=mjp.Exactly()))
    assert -2 * float(evidence.sum()) == pytest.approx(fixed["minus2loglik"], rel=RELATIVE)


# Trees: ape, phytools, phangorn


@pytest.mark.parametrize("index", range(3))
def test_anoles_agree_with_phytools(index):
    fixed, states = reference("phylo_mk")["fixed"][index], reference("phylo_mk")["states"]
    graph = anoles(mjp.MarkovJump(np.array(fixed["Q"]), states), dist.Categorical(jnp.array(fixed["pi"])))
    assert float(log_evidence(lambda: graph)) == pytest.approx(fixed["loglik"], rel=RELATIVE)


def anoles(process, initial):
    table = pd.read_csv(DATA / "anole_ecomorph.csv")
    graph = mjp.tree((DATA / "anole_tree.nwk").read_text(), process, initial=initial)
    return graph.observe_each(mjp.Exactly(), dict(zip(table.species, table.ecomorph, strict=True)))


BASES = "ACGT"


@cache
def woodmouse():
    """A forest with one copy of the tree for every site, and the base at every tip."""
    table = pd.read_csv(HERE / "data" / "woodmouse_cytb.csv")
    tree = parse_newick((HERE / "data" / "woodmouse_nj_unrooted.nwk").read_text())
    forest, seen = nx.DiGraph(), {}
    for site in range(len(table.seq[0])):
        forest.add_weighted_edges_from(
            (((site, a), (site, b), length) for a, b, length in tree.edges(data="length")), weight="length"
        )
        seen |= {
            (site, taxon): seq[site] for taxon, seq in zip(table.taxon, table.seq.str.upper(), strict=True)
        }
    return forest, seen


def substitution(frequencies, exchangeabilities):
    """Reversible generator, scaled to one expected substitution per unit of length."""
    symmetric = np.zeros((4, 4))
    symmetric[np.triu_indices(4, 1)] = exchangeabilities
    generator = (symmetric + symmetric.T) * frequencies
    return generator / (frequencies @ generator.sum(axis=1))


def dna_model(name):
    fixed = reference("phylo_dna")
    if name == "JC69":
        return np.full(4, 0.25), substitution(np.full(4, 0.25), np.ones(6))
    frequencies = np.array(fixed["GTR"]["bf"])
    return frequencies, substitution(frequencies, fixed["GTR"]["rates"])


@pytest.mark.parametrize("name", ["JC69", "GTR"])
def test_sites_of_dna_agree_with_phangorn(name):
    frequencies, generator = dna_model(name)
    forest, seen = woodmouse()
    process = mjp.MarkovJump(generator, list(BASES))
    graph = mjp.tree(forest, process, initial=dist.Categorical(jnp.array(frequencies)))
    graph.observe_each(mjp.Exactly(), {tip: base if base in BASES else None for tip, base in seen.items()})
    evidence = float(log_evidence(lambda: graph))
    assert evidence == pytest.approx(reference("phylo_dna")[name]["loglik"], rel=RELATIVE)


def test_rates_that_differ_between_sites_agree_with_phangorn():
    # the class of a site is part of its state, which a base reveals only in part: a censored state
    frequencies, generator = dna_model("GTR_G4")
    fixed = reference("phylo_dna")["GTR_G4"]
    speeds = np.array(fixed["rates"])
    states = [(category, base) for category in range(len(speeds)) for base in BASES]
    process = mjp.MarkovJump(np.kron(np.diag(speeds), generator), states)
    forest, seen = woodmouse()
    initial = dist.Categorical(jnp.array(np.kron(np.full(len(speeds), 1 / len(speeds)), frequencies)))
    sets = {base: frozenset(state for state in states if state[1] == base) for base in BASES}
    graph = mjp.tree(forest, process, initial=initial)
    graph.observe_each(mjp.Exactly(), {tip: sets.get(base) for tip, base in seen.items()})
    assert float(log_evidence(lambda: graph)) == pytest.approx(fixed["loglik"], rel=RELATIVE)


# Hidden Markov models: NumPy, hmmlearn, dynamax


def hmm(kind, matrix=None):
    small = reference("hmm_small")
    name = "categorical" if kind == "categorical" else "gaussian"
    values = pd.read_csv(HERE / "data" / f"hmm_{name}_k5_t1000.csv").iloc[:, -1].to_numpy()
    emission, mean, scale = (jnp.array(small[key]) for key in ("B", "mu", "sd"))
    if kind == "categorical":
        likelihood = lambda x: dist.Categorical(emission[x])
    else:
        likelihood = lambda x: dist.Normal(mean[x], scale[x])
        values = (
            np.where((np.arange(1000) >= 200) & (np.arange(1000) < 300), np.nan, values)
            if (kind == "missing")
            else values
        )
    matrix = jnp.array(small["A"]) if matrix is None else matrix
    graph = mjp.chain(mjp.MarkovChain(matrix), np.arange(1000), initial=first(*small["pi"]))
    return graph.observe_each(likelihood, values)


@pytest.mark.parametrize("kind", ["categorical", "gaussian", "missing"])
def test_hidden_markov_models_agree_with_three_programs(kind):
    guided = jax.jit(lambda: mjp.condition(hmm(kind)))()
    found = reference("hmm_small")["gaussian_missing_200_300" if kind == "missing" else kind]
    for program in ("numpy", "hmmlearn", "dynamax"):
        if f"loglik_{program}" in found:
            assert float(guided.log_evidence) == pytest.approx(found[f"loglik_{program}"], rel=RELATIVE)
    assert guided.terms.shape == (1000,)
    assert float(guided.terms.sum()) == pytest.approx(float(guided.log_evidence), rel=1e-12)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_gradient_of_a_hidden_markov_model(kind):
    small = reference("hmm_small")
    by_log = jax.grad(lambda log: mjp.condition(hmm(kind, jax.nn.softmax(log, axis=1))).log_evidence)
    gradient = jax.jit(by_log)(jnp.log(jnp.array(small["A"])))
    np.testing.assert_allclose(gradient, small[kind]["grad_logA"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_draws_have_the_smoothed_marginals(kind):
    found, n = reference("hmm_small")[kind], 4000
    draw = jax.jit(jax.vmap(lambda key: mjp.condition(hmm(kind)).sample(key)[0].values))
    draws = draw(jax.random.split(jax.random.key(1), n))
    expected = np.array(found["smoothed"])
    share = np.asarray(draws[:, found["smoothed_t"], None] == np.arange(5)).mean(axis=0)
    error = np.sqrt(expected * (1 - expected) / n)
    np.testing.assert_array_less(np.abs(share - expected), 4.5 * error + 1 / n)


@pytest.mark.parametrize("index", range(2))
def test_earthquakes_agree_with_zucchini_and_macdonald(index):
    fixed = reference("poisson_hmm_earthquakes")["fixed"][index]
    table, rate = pd.read_csv(DATA / "earthquakes_m7_1900_2006.csv"), jnp.array(fixed["lam"])
    graph = mjp.chain(mjp.MarkovChain(fixed["A"]), table["year"], initial=first(*fixed["stationary"]))
    graph.observe_each(lambda x: dist.Poisson(rate[x]), table["count"].to_numpy())
    assert float(log_evidence(lambda: graph)) == pytest.approx(fixed["loglik"], rel=RELATIVE)


# Gradients

CAV_RATES = [(1, 2), (1, 4), (2, 1), (2, 3), (2, 4), (3, 2), (3, 4)]


def cav_by_logs(observe):
    def log_likelihood(logs):
        named = dict(zip(CAV_RATES, jnp.exp(logs), strict=True))
        process = mjp.MarkovJump(named, CAV_STATES)
        return mjp.condition(mjp.panel(process, cav(), observe=observe())).log_evidence.sum()

    return log_likelihood, jnp.linspace(-2.5, -0.5, len(CAV_RATES))


def anoles_by_logs():
    states = reference("phylo_mk")["states"]

    def log_likelihood(logs):
        matrix = 0.05 * jnp.exp(logs)[:, None] * jnp.exp(-logs)[None]
        return mjp.condition(anoles(mjp.MarkovJump(matrix, states), first(*np.full(6, 1 / 6)))).log_evidence

    return log_likelihood, jnp.linspace(-0.4, 0.5, 6)


def hmm_by_logs():
    small = reference("hmm_small")
    log = jnp.log(jnp.array(small["A"])).reshape(-1)
    return lambda logs: mjp.condition(hmm("missing", jax.nn.softmax(logs.reshape(5, 5), 1))).log_evidence, log


@pytest.mark.parametrize(
    "case",
    [lambda: cav_by_logs(lambda: DEATH), lambda: cav_by_logs(misclassified), anoles_by_logs, hmm_by_logs],
    ids=["cav", "cav misclassified", "tree", "hmm"],
)
def test_gradient_equals_finite_differences(case):
    log_likelihood, at = case()
    value_and_gradient = jax.jit(jax.value_and_grad(log_likelihood))
    gradient, step = value_and_gradient(at)[1], 1e-4
    directions = jax.random.normal(jax.random.key(0), (3, len(at)))
    for direction in directions / jnp.linalg.norm(directions, axis=1, keepdims=True):
        values = [float(value_and_gradient(at + m * step * direction)[0]) for m in (-2, -1, 1, 2)]
        slope = np.dot([1.0, -8.0, 8.0, -1.0], values) / (12 * step)
        assert float(gradient @ direction) == pytest.approx(slope, rel=1e-5, abs=1e-6)
