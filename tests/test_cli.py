"""The command `mjp`."""

import subprocess
import sys
from dataclasses import replace

import jax
import matplotlib
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from typer.testing import CliRunner

from mjp.cli import app
from mjp.models import MODELS, Model

matplotlib.use("agg")


@pytest.fixture(autouse=True)
def _leave_settings_alone(monkeypatch):
    """The command sets JAX's precision for its process; the other tests need what they had."""
    monkeypatch.setenv("COLUMNS", "200")
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def one_line(result) -> str:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    [line] = result.stderr.strip().splitlines()
    return line


def heights(data):
    mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
    numpyro.sample("height", dist.Normal(mean, 1.0), obs=data)


@pytest.fixture
def plain_model(monkeypatch):
    """A model that compiles fast: it has no path."""
    data = 3.0 + np.random.default_rng(0).normal(size=20)
    entry = Model(
        "plain", "Heights", heights, lambda path=None: data, "none", "A mean.", "nobody", {"chains": 2}
    )
    monkeypatch.setitem(MODELS, "plain", entry)
    return entry


def test_models_are_listed():
    result = run("models")
    assert result.exit_code == 0
    for entry in MODELS.values():
        assert entry.name in result.output
        assert entry.title in result.output


def test_a_converged_fit(plain_model, tmp_path):
    result = run("fit", "plain", "--out", tmp_path / "new", "--draws", 2000, "--warmup", 300)
    assert result.exit_code == 0, result.output
    assert "All good" in result.output
    assert " s in all" in result.output
    assert "Heights" in (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    summary = pd.read_csv(tmp_path / "new" / "summary.csv", index_col=0)
    assert abs(summary.loc["mean", "mean"] - plain_model.load().mean()) < 0.1
    import xarray

    with xarray.open_datatree(tmp_path / "new" / "fit.nc") as tree:
        assert tree["posterior"]["mean"].shape == (2, 2000)
        assert tree["posterior"]["mean"].dtype == np.float64


def test_settings_are_those_of_the_model_unless_given(plain_model, tmp_path, monkeypatch):
    taken = []

    def stop(entry, values, settings, seed, checkpoint):
        taken.append(settings)
        raise RuntimeError

    monkeypatch.setattr("mjp.cli._fit", stop)
    plain_model.settings.update(thinning=5, draws=70)
    run("fit", "plain", "--out", tmp_path)
    run("fit", "plain", "--out", tmp_path, "--draws", 80, "--thinning", 2)
    assert taken == [{"chains": 2, "thinning": 5, "draws": 70}, {"chains": 2, "thinning": 2, "draws": 80}]


def test_a_fit_that_has_not_converged_is_resumed(plain_model, tmp_path):
    words = ("fit", "plain", "--out", tmp_path, "--draws", 20, "--warmup", 20, "--checkpoint")
    first = run(*words)
    assert first.exit_code == 1
    assert "too few effective draws" in first.output
    assert (tmp_path / "checkpoint" / "chain0.npz").exists()
    assert run(*words).exit_code == 1
    other = run("fit", "plain", "--out", tmp_path, "--draws", 30, "--warmup", 20, "--checkpoint")
    assert "holds a run with draws=20" in one_line(other)


def test_single_precision(plain_model, tmp_path):
    result = run("fit", "plain", "--out", tmp_path, "--draws", 20, "--warmup", 20, "--float32")
    assert result.exit_code == 1
    assert "float32" in (tmp_path / "report.html").read_text(encoding="utf-8")


MORE = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("sp500", "heston", "ion-channel", "lasers", "lynx_hare", "influenza", "hagelloch")
]


@pytest.mark.parametrize("name", ["cav", "earthquakes", "anole-sizes", "regimes", *MORE])
def test_simulated_data_are_read_back(name, tmp_path):
    file = tmp_path / "data.csv"
    result = run("simulate", name, "--out", file, "--seed", 3)
    assert result.exit_code == 0, result.output
    before = file.read_text()
    assert MODELS[name.replace("_", "-")].load(file) is not None
    run("simulate", name, "--out", file, "--seed", 3)
    assert file.read_text() == before


def test_simulate_with_given_values(tmp_path):
    file = tmp_path / "data.csv"
    assert run("simulate", "anoles", "--out", file, "--value", "rate=1e-9").exit_code == 0
    assert pd.read_csv(file)["ecomorph"].nunique() == 1
    assert len(MODELS["anoles"].load(file).ecomorph) == 82


@pytest.mark.parametrize(("name", "suffix"), [("cav", "png"), ("lynx_hare", "svg"), ("anole-sizes", "png")])
def test_graph_is_drawn(name, suffix, tmp_path):
    file = tmp_path / f"graph.{suffix}"
    result = run("graph", name, "--out", file)
    assert result.exit_code == 0, result.output
    assert file.stat().st_size > 3000


def test_errors_are_one_line(tmp_path):
    csv = tmp_path / "bad.csv"
    csv.write_text("PTNUM,years\n1,0\n")
    assert "there is no model 'cow'; the models are cav" in one_line(run("fit", "cow"))
    assert "there is no file" in one_line(run("fit", "cav", "--data", tmp_path / "none.csv"))
    assert "has no column 'state'" in one_line(run("fit", "cav", "--data", csv))
    csv.write_text("PTNUM,years,state\n1,0,9\n")
    assert "holds the state 9" in one_line(run("fit", "cav", "--data", csv))
    csv.write_text("")
    assert "--data" in one_line(run("fit", "cav", "--data", csv))
    assert "cannot make the folder" in one_line(run("fit", "cav", "--out", csv / "below"))
    assert "must end in one of .png" in one_line(run("graph", "cav", "--out", tmp_path / "graph.doc"))
    assert "the model's sites are rate" in one_line(run("simulate", "anoles", "--out", csv, "--value", "q=1"))
    assert "expected numbers" in one_line(run("simulate", "anoles", "--out", csv, "--value", "rate=fast"))
    assert "outside" in one_line(run("simulate", "anoles", "--out", csv, "--value", "rate=-1"))


def test_impossible_data_are_one_line(plain_model, monkeypatch, tmp_path):
    nothing = replace(plain_model, load=lambda path=None: np.full(3, np.inf))
    monkeypatch.setitem(MODELS, "plain", nothing)
    assert "zero likelihood" in one_line(run("fit", "plain", "--out", tmp_path, "--draws", 5, "--warmup", 5))


def test_no_command_shows_help():
    assert "Usage" in run().output
    assert run("fit").exit_code == 2


def test_python_m_mjp():
    done = subprocess.run(
        [sys.executable, "-m", "mjp", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "simulate" in done.stdout


@pytest.mark.slow
def test_a_ready_model_from_data_to_report(tmp_path):
    result = run("fit", "cav", "--out", tmp_path, "--draws", 500, "--warmup", 500, "--chains", 2)
    assert result.exit_code in (0, 1), result.output
    assert "3968.798; msm reports 3968.798" in result.output
    assert "Observed and expected prevalence" in (tmp_path / "report.html").read_text(encoding="utf-8")
