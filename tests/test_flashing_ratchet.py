"""The discrete flashing ratchet: rates of a jump process from irregular snapshots, by exact likelihood.

A particle on a ring of three sites, in a potential that is switched on and off at rate r: six states. While
it is on, jumps from site i to j have rate exp(-V (j - i) / 2), while it is off rate b. Data: 200 simulated
paths with V = r = b = 1, seen at 50 irregular times each, the benchmark of neural inference of jump processes
(Seifner & Sanchez, ICML 2023; Berghaus et al., NeurIPS 2024). The rates that the latter's published tutorial
estimates stand in the reference file.
"""

import json
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin

import mjp

HERE = Path(__file__).parent
STATES = range(6)  # sites 0, 1, 2 with the potential on, then off


@cache
def reference():
    return json.loads((HERE / "reference" / "dfr.json").read_text())


@cache
def paths():
    frame = pd.read_csv(HERE / "data" / "dfr_irregular_200paths.csv")
    return mjp.Panel.from_frame(frame, subject="path", time="t", state="state")


def generator(V, r, b):
    """The generator (6, 6)."""
    site = jnp.arange(3)
    on = jnp.exp(-V * (site[None, :] - site[:, None]) / 2)
    eye, off = jnp.eye(3), 1.0 - jnp.eye(3)
    rates = jnp.block([[on * off, r * eye], [r * eye, b * off]])
    return rates - jnp.diag(rates.sum(axis=1))


def ratchet(data):
    positive = dist.LogNormal(0.0, 1.0)
    V = numpyro.sample("V", dist.Normal(0.0, 2.0))
    r = numpyro.sample("r", positive)
    b = numpyro.sample("b", positive)
    process = mjp.MarkovJump(generator(V, r, b), STATES)
    mjp.sample("particle", mjp.panel(process, data, observe=mjp.Exactly()))


def stationary(Q):
    weights = np.linalg.eig(Q.T)
    vector = np.real(weights[1][:, np.argmin(np.abs(weights[0]))])
    return vector / vector.sum()


def relaxation_times(Q):
    """Minus the inverse real parts of the eigenvalues other than zero, longest first."""
    return 1.0 / np.sort(-np.real(np.linalg.eigvals(Q)))[1:]


def test_the_generator_is_that_of_the_reference():
    Q = np.asarray(generator(1.0, 1.0, 1.0))
    np.testing.assert_allclose(Q, reference()["Q_true"], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(stationary(Q), reference()["stationary"], rtol=1e-5)
    np.testing.assert_allclose(relaxation_times(Q), reference()["relaxation_times"], rtol=1e-5)


def test_the_likelihood_is_that_of_the_reference():
    def log_likelihood(V, r, b):
        process = mjp.MarkovJump(generator(V, r, b), STATES)
        return jnp.sum(mjp.condition(mjp.panel(process, paths(), observe=mjp.Exactly())).log_evidence)

    golden, found = reference()["golden_200paths"], jax.jit(log_likelihood)
    assert golden["n_transitions"] == sum(len(t) - 1 for t in np.split(*_by_path()))
    np.testing.assert_allclose(found(1.0, 1.0, 1.0), golden["loglik_true_Q"], rtol=1e-8)
    np.testing.assert_allclose(found(1.2, 0.8, 1.1), golden["loglik_V1_2_r0_8_b1_1"], rtol=1e-8)


def _by_path():
    frame = pd.read_csv(HERE / "data" / "dfr_irregular_200paths.csv")
    return frame["t"].to_numpy(), np.flatnonzero(np.diff(frame["path"].to_numpy())) + 1


@pytest.mark.slow
def test_the_posterior_covers_the_truth_and_beats_the_published_point_estimate():
    fit = mjp.fit(ratchet, paths(), draws=500, warmup=300, chains=2, progress=False)
    draws = fit.parameters
    for name in ("V", "r", "b"):
        assert float(split_gelman_rubin(draws[name])) < 1.02
        assert float(effective_sample_size(draws[name])) > 300
        low, high = np.quantile(draws[name], [0.001, 0.999])
        assert low < 1.0 < high, (name, low, high)
    flat = np.stack([draws[name].reshape(-1) for name in ("V", "r", "b")], axis=1)
    Q = np.asarray(jax.vmap(lambda x: generator(*x))(jnp.asarray(flat)))
    truth = np.asarray(reference()["Q_true"])
    for function in (stationary, relaxation_times):
        found = np.stack([function(one) for one in Q])
        low, high = np.quantile(found, [0.001, 0.999], axis=0)
        assert np.all((low < function(truth)) & (function(truth) < high)), function.__name__
    rmse = lambda other: np.sqrt(np.mean((other - truth)[~np.eye(6, dtype=bool)] ** 2))
    published = reference()["fim_tutorial"]
    theirs = np.asarray(published["Q"])
    np.testing.assert_allclose(rmse(theirs), published["rmse_offdiag"], rtol=1e-3)
    table = {
        "rate RMSE": (rmse(Q.mean(axis=0)), rmse(theirs)),
        "stationary law, largest error": tuple(
            np.abs(stationary(x) - stationary(truth)).max() for x in (Q.mean(axis=0), theirs)
        ),
        "relaxation times, largest error": tuple(
            np.abs(relaxation_times(x) - relaxation_times(truth)).max() for x in (Q.mean(axis=0), theirs)
        ),
    }
    print(table, {name: (v.mean(), v.std()) for name, v in draws.items()}, fit.seconds)
    assert rmse(Q.mean(axis=0)) < 0.6 * rmse(theirs)
