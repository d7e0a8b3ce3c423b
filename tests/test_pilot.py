"""Which engine `mjp.fit` chooses for reaction networks, and a fit with the one that a pilot run chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import lax

import mjp
from mjp.fitting.pilot import filters_suffice
from mjp.inference.bootstrap_filter import bootstrap_filter
from mjp.inference.count_graph import evaluate

CASES = np.array([np.nan, 3.0, 6.0, 5.0, 7.0, 2.0])


def weeks(contact, report, law, cases=CASES):
    network = mjp.ReactionNetwork([("S + I -> 2 I + new", contact / 40), ("I -> R", 0.7)], counters=["new"])
    chain = mjp.chain(network, np.arange(6.0), initial={"S": 37, "I": 3, "R": 0})
    return chain.observe_each(lambda x: law(report * x["new"] + 0.1), cases)


def reported(law=dist.Poisson, n_parameters=2, **options):
    def model():
        contact = numpyro.sample("contact", dist.LogNormal(0.3, 0.4))
        report = numpyro.sample("report", dist.Beta(6.0, 4.0))
        if n_parameters > 2:
            numpyro.sample("others", dist.Normal().expand([n_parameters - 2]).to_event(1))
        mjp.sample("flu", weeks(contact, report, law), **options)

    return model


def test_noisy_counts_of_few_parameters_are_filtered_without_a_guide():
    found = filters_suffice(reported(), (), {})
    assert found is not None
    assert 50 <= found.particles <= 500
    # as many as there can be infections and recoveries in the pilot's paths, and room to spare
    [options] = found.model.options.values()
    assert 64 <= options["max_events"] <= 256


def sharp(mean):
    return dist.Normal(mean, 0.02)


@pytest.mark.parametrize(
    "model",
    [
        reported(sharp),
        reported(n_parameters=9),
        reported(auxiliary="conditioned hazard"),
        reported(latent="innovations"),
    ],
    ids=["sharp", "many parameters", "a guide is asked for", "innovations"],
)
def test_other_models_are_guided(model):
    assert filters_suffice(model, (), {}) is None


def test_discrete_parameters_and_other_processes_are_left_to_others():
    def mixed():
        drift = numpyro.sample("drift", dist.Normal())
        mjp.sample("flu", weeks(1.5, 0.6, dist.Poisson))
        process = mjp.Diffusion(lambda t, x: drift * jnp.sin(x), 0.3)
        path = mjp.chain(process, range(3), initial=0.0, steps=2)
        mjp.sample("x", path.observe_each(lambda x: dist.Normal(x[0], 0.1), [np.nan, 0.3, 0.1]))

    def without_parameters():
        mjp.sample("flu", weeks(1.5, 0.6, dist.Poisson))

    assert filters_suffice(mixed, (), {}) is None
    assert filters_suffice(without_parameters, (), {}) is None
    assert filters_suffice(lambda: numpyro.sample("a", dist.Normal()), (), {}) is None


@pytest.mark.slow
def test_a_fit_of_reported_cases(tmp_path):
    """The posterior on a grid whose evidence is estimated by large filters, to a tenth of a deviation."""
    fit = mjp.fit(reported(), draws=400, warmup=300, chains=2, progress=False)
    assert fit.engine.startswith("pseudo-marginal moves, ")
    assert fit.problems() == []
    logs, shares = np.linspace(-1.2, 1.8, 13), np.linspace(0.15, 0.95, 11)

    def estimate(point):
        model = evaluate(weeks(jnp.exp(point[0]), point[1], dist.Poisson), None)
        return bootstrap_filter(model, jax.random.key(0), 500).log_evidence[0]

    grid = jnp.asarray(np.stack(np.meshgrid(logs, shares, indexing="ij"), axis=-1).reshape(-1, 2))
    log = np.array(jax.jit(lambda grid: lax.map(estimate, grid))(grid)).reshape(13, 11)
    log += -0.5 * ((logs - 0.3) / 0.4)[:, None] ** 2 + np.asarray(dist.Beta(6.0, 4.0).log_prob(shares))
    weights = np.exp(log - log.max())
    weights /= weights.sum()
    for draws, grid, own in (
        (np.log(fit.samples["contact"]), logs, weights.sum(axis=1)),
        (fit.samples["report"], shares, weights.sum(axis=0)),
    ):
        mean = own @ grid
        deviation = np.sqrt(own @ (grid - mean) ** 2)
        assert abs(draws.mean() - mean) < 0.2 * deviation
        assert abs(draws.std() / deviation - 1) < 0.15
    assert fit.paths("flu", times=np.array([0.0, 2.5])).sel(coordinate="new").isel(time=0).max() == 0
    page = fit.report(tmp_path / "report.html").read_text()
    assert "could not be made" not in page
    assert "share of the moves that were accepted" in page
