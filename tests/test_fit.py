"""mjp.fit: draws, checkpoints, groups of the result, complaints."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import NUTS

import mjp
from mjp.fitting.engines import choose_engine

PANEL = mjp.Panel.from_arrays(
    np.repeat(np.arange(30), 4),
    np.tile([0.0, 1.0, 2.5, 4.0], 30),
    [s for i in range(30) for s in (["well"] * (1 + i % 3) + ["ill"] * (3 - i % 3))],
)


def illness(panel):
    rate = numpyro.sample("rate", dist.LogNormal(-1.0, 1.0).expand([2]).to_event(1))
    process = mjp.MarkovJump({("well", "ill"): rate[0], ("ill", "well"): rate[1]})
    mjp.sample("health", mjp.panel(process, panel, observe=mjp.Exactly()))


@pytest.fixture(scope="module")
def fit():
    return mjp.fit(illness, PANEL, draws=150, warmup=150, chains=2, seed=1, progress=False)


def test_shapes_and_statistics(fit):
    assert fit.samples["rate"].shape == (2, 150, 2)
    assert fit.statistics["diverging"].sum() == 0
    assert np.all(fit.samples["rate"] > 0)
    assert list(fit.summary().index) == ["rate[0]", "rate[1]"]
    assert fit.mcmc.get_samples()["rate"].shape == (300, 2)


def test_data_has_every_group_with_named_axes(fit):
    data = fit.data
    assert set(data.children) == {
        "posterior",
        "sample_stats",
        "log_likelihood",
        "prior",
        "paths",
        "posterior_predictive",
        "observed_data",
    }
    assert data["log_likelihood"]["health"].dims == ("chain", "draw", "subject")
    assert data["paths"]["health_on_grid"].dims == ("chain", "draw", "subject", "health_time")
    assert data["paths"]["health"].attrs["states"] == ["well", "ill"]
    assert set(data["sample_stats"]) >= {"diverging", "lp", "n_steps", "acceptance_rate", "energy"}
    assert data["posterior_predictive"]["health"].shape[2:] == data["observed_data"]["health"].shape
    assert data["observed_data"]["health"].attrs["labels"] == ["well", "ill"]


def test_paths_agree_with_what_was_seen(fit):
    paths = fit.paths("health", times=[0.0, 1.0, 2.5, 4.0], draws=40)
    codes = np.array([0 if s == "well" else 1 for s in PANEL.states]).reshape(30, 4)
    assert np.all(paths.values == codes)
    outside = fit.paths("health", times=[-1.0, 9.0], draws=4)
    assert np.all(outside.values == -1)
    with pytest.raises(ValueError, match="no path 'ilness'"):
        fit.paths("ilness")


def test_the_same_seed_gives_the_same_draws(fit):
    again = mjp.fit(illness, PANEL, draws=150, warmup=150, chains=2, seed=1, progress=False)
    np.testing.assert_array_equal(again.samples["rate"], fit.samples["rate"])


def test_thinning_keeps_the_last_of_some_iterations(fit):
    thinned = mjp.fit(illness, PANEL, draws=50, thinning=3, warmup=150, chains=2, seed=1, progress=False)
    np.testing.assert_array_equal(thinned.samples["rate"], fit.samples["rate"][:, 2::3])
    steps = fit.statistics["num_steps"][:, 2::3]
    np.testing.assert_array_equal(thinned.statistics["num_steps"], steps)
    assert thinned.mcmc.num_samples == 150


class Diverging(NUTS):
    """Reports a divergence in the second of every four iterations."""

    def sample(self, state, model_args, model_kwargs):
        state = super().sample(state, model_args, model_kwargs)
        return state._replace(diverging=state.i % 4 == 2)


@pytest.mark.filterwarnings("ignore:.*draws diverged", "ignore:.*chains have not mixed")
def test_divergences_between_the_draws_are_counted():
    settings = {"draws": 6, "warmup": 0, "chains": 1, "progress": False}
    found = mjp.fit(illness, PANEL, engine=Diverging(illness), thinning=2, **settings).statistics["diverging"]
    assert found.tolist() == [[True, False, True, False, True, False]]


def test_a_killed_run_resumes_with_identical_draws(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys
            import jax
            jax.config.update("jax_enable_x64", True)
            import numpy as np
            sys.path.insert(0, {tests!r})
            import test_fit
            import mjp
            from mjp.fitting.checkpoint import Checkpoint

            if sys.argv[2] == "kill":
                save = Checkpoint.save
                count = [0]
                def save_and_die(*args):
                    save(*args)
                    count[0] += 1
                    if count[0] == 5:
                        os._exit(9)
                Checkpoint.save = save_and_die
            kwargs = dict(draws=300, warmup=100, chains=2, seed=3, progress=False)
            where = None if sys.argv[1] == "none" else sys.argv[1]
            fit = mjp.fit(test_fit.illness, test_fit.PANEL, checkpoint=where, **kwargs)
            np.save(sys.argv[3], fit.samples["rate"])
            """
        ).format(tests=str(__import__("pathlib").Path(__file__).parent))
    )

    def run(checkpoint, mode, out):
        return subprocess.run([sys.executable, script, checkpoint, mode, out], check=False).returncode

    store, full, resumed = str(tmp_path / "run"), str(tmp_path / "full.npy"), str(tmp_path / "resumed.npy")
    assert run("none", "go", full) == 0
    assert run(store, "kill", resumed) == 9
    assert run(store, "go", resumed) == 0
    np.testing.assert_array_equal(np.load(full), np.load(resumed))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    kwargs = {"draws": 10, "warmup": 10, "chains": 1, "progress": False, "checkpoint": tmp_path}
    mjp.fit(illness, PANEL, seed=1, **kwargs)
    with pytest.raises(ValueError, match="holds a run with seed=1"):
        mjp.fit(illness, PANEL, seed=2, **kwargs)


def test_a_kernel_as_engine():
    fit = mjp.fit(
        illness,
        PANEL,
        engine=NUTS(illness, target_accept_prob=0.9),
        draws=20,
        warmup=20,
        chains=1,
        progress=False,
    )
    assert fit.engine == "NUTS"


@pytest.mark.filterwarnings("ignore:.*diverged", "ignore:.*chains have not mixed")
def test_paths_are_read_with_the_guide_of_the_kernel():
    """Innovations mean a path only together with the guide under which they were drawn."""
    times, seen = np.arange(4.0), np.array([np.nan, 1.2, -0.5, 0.7])

    def double_well(pull):
        chain = mjp.chain(mjp.Diffusion(lambda t, x: pull * (x - x**3), 0.8), times, initial=[0.0], steps=3)
        return chain.observe_each(lambda x: dist.Normal(x[0], 0.2), seen)

    def model():
        mjp.sample("x", double_well(numpyro.sample("pull", dist.LogNormal(0.0, 0.7))))

    fit = mjp.fit(model, engine=NUTS(model), draws=4, warmup=4, chains=1, progress=False)
    found = np.asarray(fit.paths("x", times=times))[0, :, :, 0]
    for draw in range(4):
        guided = mjp.condition(double_well(fit.samples["pull"][0, draw]))
        ((name, shape),) = guided.innovations.items()
        path, _ = guided.push({name: fit.samples["x.innovations"][0, draw].reshape(shape)})
        np.testing.assert_allclose(found[draw], path.values[:, 0], rtol=1e-5, atol=1e-6)


def test_impossible_data_name_the_subjects():
    bad = mjp.Panel.from_arrays(["p", "p", "q", "q"], [0, 1, 0, 1], ["a", "b", "b", "a"])

    def oneway(panel):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
        matrix = jnp.array([[0.0, 1.0], [0.0, 0.0]]) * rate  # its zeros are not known before it runs
        process = mjp.MarkovJump(matrix, states=["a", "b"])
        mjp.sample("x", mjp.panel(process, panel, observe=mjp.Exactly()))

    with pytest.raises(ValueError, match="subjects 'q' have zero likelihood"):
        mjp.fit(oneway, bad, draws=10, warmup=10, chains=1, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 0}, "draws must be an integer >= 1, got 0"),
        ({"warmup": -1}, "warmup must be an integer >= 0"),
        ({"chains": 1.5}, "chains must be an integer >= 1"),
        ({"thinning": 0}, "thinning must be an integer >= 1, got 0"),
        ({"engine": "gibs"}, "engine must be 'auto', 'nuts' or a NumPyro kernel, got 'gibs'"),
    ],
)
def test_bad_settings(change, message):
    with pytest.raises(ValueError, match=message):
        mjp.fit(illness, PANEL, progress=False, **change)


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no latent sites"):
        mjp.fit(lambda: numpyro.factor("a", 0.0), progress=False)


def test_a_discrete_latent_site_is_refused():
    def model():
        numpyro.sample("k", dist.Poisson(3.0))

    with pytest.raises(ValueError, match="'k' is discrete"):
        mjp.fit(model, progress=False)


def two_levels(seen):
    """Two labelled levels far from zero, of which the prior says which is which."""
    level = numpyro.sample("level", dist.Normal(jnp.array([50.0, 60.0]), 1.0).to_event(1))
    move = mjp.MarkovChain(jnp.array([[0.9, 0.1], [0.1, 0.9]]))
    chain = mjp.chain(move, np.arange(4), initial=dist.Categorical(jnp.full(2, 0.5)))
    mjp.sample("s", chain.observe_each(lambda s: dist.Normal(level[s], 5.0), seen))


def test_chains_start_near_the_prior_median():
    data = (np.array([50.0, 51.0, 60.0, 61.0]),)
    _, make = choose_engine(two_levels, "auto", data, {})
    for seed in range(3):
        start = make().init(jax.random.key(seed), 10, None, data, {}).z["level"]
        np.testing.assert_allclose(start, [50.0, 60.0], atol=1.5)


@pytest.mark.parametrize(("warmup", "dense"), [(1000, True), (20, False)])
def test_a_dense_mass_matrix_needs_a_warm_up(warmup, dense):
    _, make = choose_engine(two_levels, "auto", (np.zeros(4),), {}, warmup)
    assert make()._dense_mass is dense
