"""The report: sections, words, and the calibration of what it shows."""

import base64
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import mjp
from mjp.graph import Observations
from mjp.inference.path_law import PathLaw
from mjp.report import judge, write_report
from mjp.report.identification import scaled_draws
from mjp.report.occupancy import occupancy
from mjp.report.page import _make
from mjp.report.parts import listed
from mjp.report.prevalence import extended, follow_up, prevalence, states_at
from mjp.report.vectors import shown_coordinates

matplotlib.use("agg")
TRUE = {("well", "ill"): 0.3, ("ill", "well"): 0.2, ("well", "dead"): 0.05, ("ill", "dead"): 0.25}


class Page(HTMLParser):
    """Anchors of sections, addresses that are loaded, and the text of each section."""

    def __init__(self, html: str):
        super().__init__()
        self.text: dict[str, str] = {}
        self.loaded: list[str] = []
        self.pictures: list[str] = []
        self.current = "header"
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "section":
            self.current = attributes["id"]
        if tag in ("script", "link", "iframe"):
            self.loaded.append(tag)
        if tag == "img":
            assert attributes["alt"]
            self.loaded.append(attributes["src"][:22])
            self.pictures.append(attributes["src"])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text[self.current] = self.text.get(self.current, "") + data


def simulated_panel(n: int, seed: int = 0) -> mjp.Panel:
    """Yearly visits until death, whose time is exact, or until an independent end of follow-up."""
    rng = np.random.default_rng(seed)
    rows = []
    for subject in range(n):
        state, t, end, path = "well", 0.0, rng.uniform(2, 10), [(0.0, "well")]
        while state != "dead":
            out = {b: q for (a, b), q in TRUE.items() if a == state}
            t += rng.exponential(1 / sum(out.values()))
            state = str(rng.choice(list(out), p=np.asarray(list(out.values())) / sum(out.values())))
            path.append((t, state))
        jumps = np.asarray([a for a, _ in path])
        for visit in np.arange(0.0, min(end, t), 1.0):
            rows.append((subject, visit, path[np.searchsorted(jumps, visit, side="right") - 1][1]))
        if t <= end:
            rows.append((subject, t, "dead"))
    return mjp.Panel.from_frame(pd.DataFrame(rows, columns=["id", "t", "s"]), "id", "t", "s")


def illness(visits):
    q = numpyro.sample(
        "q", dist.LogNormal(-1.5, 1.0).expand([4]).to_event(1), infer={"event_dims": ["transition"]}
    )
    process = mjp.MarkovJump(dict(zip(TRUE, q, strict=True)), ["well", "ill", "dead"])
    mjp.sample("illness", mjp.panel(process, visits, observe=mjp.Exactly(entry="dead")))


def made_fit(model, *args, coords=None, **samples) -> mjp.Fit:
    """A fit whose draws are given, (chain, draw, ...), so that no sampler has to be compiled."""
    chains, draws = next(iter(samples.values())).shape[:2]
    rng = np.random.default_rng(1)
    return mjp.Fit(
        model=model,
        args=args,
        kwargs={},
        engine="NUTS",
        samples=samples,
        statistics={
            "diverging": np.zeros((chains, draws), bool),
            "num_steps": np.full((chains, draws), 7),
            "energy": rng.normal(size=(chains, draws)),
        },
        last_states=None,
        make_kernel=None,  # type: ignore[arg-type]
        settings={
            "model": model.__name__,
            "draws": draws,
            "warmup": 10,
            "chains": chains,
            "thinning": 1,
            "seed": 0,
        },
        seconds={"compilation": 1.0, "sampling": 2.0},
        coords=coords or {},
    )


@pytest.fixture(scope="module")
def panel_fit():
    labels = {"transition": [f"{a} -> {b}" for a, b in TRUE]}
    noise = np.random.default_rng(2).normal(size=(2, 50, 4))
    draws = np.asarray(list(TRUE.values())) * np.exp(0.08 * noise)
    return made_fit(illness, simulated_panel(200), coords=labels, q=draws)


@pytest.fixture(scope="module")
def shown(panel_fit):
    return prevalence(panel_fit, "illness")


@pytest.fixture(scope="module")
def panel_page(panel_fit, shown, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mjp.report.prevalence.prevalence", lambda fit, name: shown)  # computed once
        file = panel_fit.report(tmp_path_factory.mktemp("report") / "new" / "page.html")
    return Page(file.read_text(encoding="utf-8"))


def two_paths(counts):
    """A chain and a tree in one model, and a parameter that no data reach."""
    stay = numpyro.sample("stay", dist.Beta(5.0, 1.0))
    rate = numpyro.sample("rate", dist.HalfNormal(1.0))
    numpyro.sample("nowhere", dist.Normal(0.0, 1.0))
    hidden = mjp.MarkovChain(jnp.array([[stay, 1 - stay], [1 - stay, stay]]), ["low", "high"])
    g = mjp.chain(hidden, np.arange(len(counts)), initial=dist.Categorical(jnp.ones(2) / 2))
    g.observe_each(lambda s: dist.Poisson(jnp.where(s == 0, 2.0, 9.0)), counts)
    mjp.sample("weather", g)
    trait = mjp.MarkovJump({("a", "b"): rate, ("b", "a"): rate})
    t = mjp.tree("((x:1,y:1):1,z:2);", trait, initial=dist.Categorical(jnp.ones(2) / 2))
    mjp.sample("trait", t.observe_each(mjp.Exactly(), {"x": "a", "y": "b", "z": "a"}))


@pytest.fixture(scope="module")
def other_page(tmp_path_factory):
    counts = np.asarray([1, 2, np.nan, 3, 8, 9, 11, 7, 2, 1, 2, 3.0])
    rng = np.random.default_rng(3)
    draws = {
        "stay": rng.beta(9, 2, (2, 50)),
        "rate": rng.gamma(3, 0.1, (2, 50)),
        "nowhere": rng.normal(size=(2, 50)),
    }
    fit = made_fit(two_paths, counts, **draws)
    file = write_report(fit, tmp_path_factory.mktemp("report") / "page.html", title="A <b> & c")
    return Page(file.read_text(encoding="utf-8"))


def test_page_has_every_section_of_a_panel(panel_page):
    sections = ["fitted", "verdict", "parameters", "identification", "model", "prevalence", "occupancy"]
    sections += ["subjects", "loo", "chains", "environment", "absent"]
    assert sections == [name for name in panel_page.text if name != "header"]
    assert "200 subjects" in panel_page.text["fitted"]
    assert "q[well -> ill]" in panel_page.text["parameters"]
    assert "200 subjects, each left out in turn" in panel_page.text["loo"]
    assert "States on the tree: ancestral states are for trees." in panel_page.text["absent"]


def test_page_is_self_contained(panel_page):
    assert set(panel_page.loaded) == {"data:image/png;base64,"}
    for source in panel_page.pictures:
        assert base64.b64decode(source.partition(",")[2]).startswith(b"\x89PNG")


def test_too_few_draws_are_told_in_words(panel_page):
    text = panel_page.text["verdict"]
    assert "Do not trust this run yet" in text
    assert "too few effective draws: the bulk ESS of q[" in text
    assert "times as many" in text


def test_page_of_a_chain_and_a_tree(other_page):
    assert other_page.text["header"].strip().startswith("A <b> & c")
    assert "number of changes on the whole tree" in other_page.text["tree"]
    assert "a → b" in other_page.text["tree"]
    assert "series" in other_page.text
    assert "one-step-ahead densities" in other_page.text["loo"]
    assert "trait: the likelihood is a single number" in other_page.text["loo"]
    assert "Observed and expected prevalence: prevalence is for panels." in other_page.text["absent"]


def test_a_parameter_without_data_is_named(other_page):
    assert "The data say little about" in other_page.text["identification"]
    assert "nowhere" in other_page.text["identification"].partition("another prior")[0]


def test_divergences_and_slow_chains_are_told(panel_fit):
    shape = panel_fit.statistics["diverging"].shape
    diverging = np.zeros(shape, bool)
    diverging[0, :7] = True
    drift = {"q": panel_fit.samples["q"] + np.array([0.0, 9.0])[:, None, None]}
    statistics = {**panel_fit.statistics, "diverging": diverging, "num_steps": np.full(shape, 1023)}
    bad = replace(panel_fit, statistics=statistics, samples=drift)
    text = " ".join(judge(bad).problems)
    assert "7 of 100 draws diverged" in text
    assert "target_accept_prob" in text
    assert "R-hat of q[" in text
    assert "100 of 100 draws used up the 1023 steps" in text


def test_a_good_run_is_called_good(panel_fit):
    rng = np.random.default_rng(0)
    samples = {"q": rng.lognormal(size=(4, 400, 4))}
    statistics = {"diverging": np.zeros((4, 400), bool), "energy": rng.normal(size=(4, 400))}
    settings = {**panel_fit.settings, "draws": 400, "chains": 4}
    good = replace(panel_fit, samples=samples, statistics=statistics, settings=settings)
    verdict = judge(good)
    assert verdict.good, verdict.problems
    assert verdict.headline.startswith("All good")


def test_one_chain_is_a_problem(panel_fit):
    samples = {"q": panel_fit.samples["q"][:1]}
    statistics = {name: value[:1] for name, value in panel_fit.statistics.items()}
    settings = {**panel_fit.settings, "chains": 1}
    alone = replace(panel_fit, samples=samples, statistics=statistics, settings=settings)
    assert any("one chain only" in problem for problem in judge(alone).problems)


def test_a_section_that_fails_is_told_on_the_page(panel_fit):
    def broken(fit):
        raise RuntimeError("no ink")

    with pytest.warns(UserWarning, match="'Rain' is missing"):
        section = _make(panel_fit, "rain", "Rain", broken)
    assert "no ink" in section.reason


def test_contraction_is_on_an_unbounded_scale(panel_fit):
    names, scales, prior, posterior = scaled_draws(panel_fit)
    assert names[0] == "q[well -> ill]"
    assert set(scales) == {"log"}
    assert abs(prior.mean() + 1.5) < 0.2
    np.testing.assert_allclose(posterior[:, 0], np.log(panel_fit.samples["q"][..., 0].reshape(-1)))


def test_expected_prevalence_agrees_with_data_of_the_model(shown):
    found = shown
    enough = found.n_observed >= 40
    low, high = np.quantile(found.expected[..., enough], [0.0, 1.0], axis=0)
    observed = found.observed[:, enough]
    assert ((observed >= low) & (observed <= high)).mean() > 0.9
    np.testing.assert_allclose(found.observed.sum(axis=0)[enough], 1.0)


def test_transitions_without_data_are_named(panel_page, other_page):
    assert "standard error of its log-rate" in panel_page.text["identification"]
    assert "would not determine that of" not in panel_page.text["identification"]
    assert "trait: were every transition rate free" in other_page.text["identification"]


def small_panel() -> mjp.Panel:
    frame = pd.DataFrame(
        {"id": [1, 1, 1, 2, 2, 3, 3], "t": [0, 1, 2, 0, 3, 1, 4.0], "s": ["a", None, "b", "a", "d", "b", "a"]}
    )
    return mjp.Panel.from_frame(frame, "id", "t", "s")


def test_last_record_is_carried_forward_and_the_dead_stay():
    panel = small_panel()
    codes = np.array([0, -1, 1, 0, 3, 1, 0])
    ends = panel.times[panel.offsets[1:] - 1]
    at = states_at(codes, panel, np.array([0.0, 1.5, 2.0, 3.0, 5.0]), ends, np.array([3]))
    assert at.tolist() == [[0, 0, 1, -1, -1], [0, 0, 0, 3, 3], [-1, 1, 1, 1, -1]]


def test_follow_up_of_the_dead_ends_after_death_where_others_leave():
    panel, ended = small_panel(), np.array([False, True, False])
    rng = np.random.default_rng(0)
    drawn = {float(follow_up(panel, ended, rng)[1]) for _ in range(50)}
    assert drawn == {4.0}
    design = extended(panel, ended)
    assert design.times[design.subject_slice(2)].tolist()[:2] == [0.0, 3.0]
    assert design.lengths.tolist()[::2] == [3, 2]


def test_occupancy_keeps_those_who_ended_for_good():
    paths = np.array([[[0, 1, -1, -1], [0, 0, 0, -1], [-1, 0, 0, 0]]])
    share, count = occupancy(paths, np.array([[2, 0, 0]]), 3, np.array([2]))
    assert count.tolist() == [2, 3, 3, 2]
    assert share[2].tolist() == [0, 0, 1 / 3, 0.5]


def test_changes_are_counted(panel_fit):
    paths = panel_fit.data["paths"]
    changes = paths["illness_changes"]
    assert changes.dims == ("chain", "draw", "illness_from", "illness_to")
    into_dead = changes.sel(illness_to="dead").sum("illness_from")
    panel = panel_fit.graphs["illness"].panel
    assert np.all(into_dead == sum(state == "dead" for state in panel.states))
    assert np.all(changes.sel(illness_from="dead") == 0)


def test_lists_in_words():
    assert [listed(list("abc"[:n])) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_model_without_graph(tmp_path):
    def plain(y):
        mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    rng = np.random.default_rng(0)
    fit = made_fit(plain, rng.normal(size=9), mu=0.3 * rng.normal(size=(2, 50)))
    page = Page(write_report(fit, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "the model declares no graph" in page.text["absent"]
    assert "9 terms, each left out in turn" in page.text["loo"]


def test_environment_names_versions():
    from mjp.report.fitted import environment

    [table] = environment(SimpleNamespace(samples={"q": np.zeros(3)}))
    assert "numpyro" in table.rows[1][1]
    assert "float64" in table.rows[3][1]


def drifting(y):
    """A chain of two coordinates that is guided, and a tree whose traits are seen exactly."""
    speed = numpyro.sample("speed", dist.LogNormal(0.0, 0.5))
    turn = mjp.Diffusion(lambda t, x: speed * jnp.stack([x[1], -jnp.sin(x[0])]), jnp.full(2, 0.3), dim=2)
    g = mjp.chain(turn, np.arange(5.0), initial=dist.Normal(jnp.zeros(2), 1.0).to_event(1), steps=2)
    g.observe_each(lambda x: dist.Normal(x[0], 0.5), y)
    g.observe(2, lambda x: dist.Poisson(jnp.exp(x[1])), 3)
    mjp.sample("pendulum", g)
    trait = mjp.LinearDiffusion(jnp.zeros((2, 2)), dispersion=speed * jnp.eye(2))
    tree = mjp.tree("((a:1,b:1):0.5,c:1.5);", trait, initial=dist.Normal(jnp.zeros(2), 1.0).to_event(1))
    tree.observe_each(mjp.Exactly(), {"a": [0.1, 1.0], "b": [0.5, 2.0], "c": None})
    mjp.sample("traits", tree)


@pytest.fixture(scope="module")
def vector_fit():
    rng = np.random.default_rng(4)
    draws = {"speed": np.exp(0.1 * rng.normal(size=(2, 30)))}
    draws["pendulum.innovations"] = rng.normal(size=(2, 30, 2 + 4 * 2 * 2))
    coords = {"pendulum_coordinate": ["angle", "velocity"]}
    data = np.array([0.1, 0.8, np.nan, 0.2, -0.5])
    return made_fit(drifting, data, coords=coords, **draws)


@pytest.fixture(scope="module")
def vector_page(vector_fit, tmp_path_factory):
    file = vector_fit.report(tmp_path_factory.mktemp("report") / "page.html")
    return Page(file.read_text(encoding="utf-8"))


def test_vector_states_have_sections_of_their_own(vector_page):
    assert {"paths", "phase", "traits", "guide"} <= set(vector_page.text)
    assert not {"tree", "series", "occupancy"} & set(vector_page.text)
    assert "not a process on finitely many states" in vector_page.text["absent"]
    assert "it could not be made" not in vector_page.text["absent"]
    fitted = vector_page.text["fitted"]
    assert "Diffusion of 2 coordinates; a chain of 5 times" in fitted
    assert "2 steps per edge by the Euler–Maruyama scheme; the discretisation is part of the model" in fitted
    assert "LinearDiffusion of 2 coordinates; a tree with 3 tips" in fitted
    assert "guided: paths follow" in fitted
    assert "exact: the path is integrated out" in fitted


def test_data_of_vector_states(vector_fit):
    paths = vector_fit.data["paths"]
    assert paths["pendulum_on_grid"].coords["pendulum_coordinate"].values.tolist() == ["angle", "velocity"]
    np.testing.assert_allclose(paths["pendulum_on_grid"][:, :, ::2], paths["pendulum"])
    assert paths["pendulum_0_measured"].shape == (2, 30, 5)
    at_tips = paths["traits"].sel(traits_node=["a", "b"])
    expected = np.array([[0.1, 1.0], [0.5, 2.0]])
    np.testing.assert_allclose(at_tips, np.broadcast_to(expected, at_tips.shape), rtol=1e-9)


def test_quality_of_a_guide_is_told(vector_page):
    text = vector_page.text["guide"]
    assert "Of 1000 paths drawn by the guide" in text
    assert "time 1" in text
    assert "Where the guide is worst" in text


@pytest.mark.parametrize(
    ("likelihood", "expected"),
    [
        (mjp.Exactly(), [0, 1]),
        (lambda x: dist.Normal(x[1], 0.1), [1]),
        (lambda x: dist.Normal(2 * x, 0.1).to_event(1), [None, None]),
        (lambda x: dist.Normal(x[::-1], jnp.exp(x[0])).to_event(1), [1, 0]),
        (mjp.LinearGaussianObservation([[1.0, 1.0], [0.0, 1.0]], 0.1), [None, 1]),
        (lambda x: dist.Cauchy(x[0], 1.0), [None]),
    ],
)
def test_observations_in_the_unit_of_a_coordinate(likelihood, expected):
    observed = Observations(likelihood, np.arange(3), np.zeros(3))
    assert shown_coordinates(observed, 2) == expected


# Jump paths of counts


def decaying(counts):
    rate = numpyro.sample("rate", dist.LogNormal(-0.7, 0.3))
    network = mjp.ReactionNetwork([("X -> Y", rate), ("Y -> 0", 1.0)])
    chain = mjp.chain(network, np.arange(4.0), initial=[20, 2])
    chain.observe_each(lambda x: dist.Normal(x["Y"], 2.0), counts)
    mjp.sample("decay", chain, max_events=32)


@pytest.fixture(scope="module")
def counts_fit():
    """Draws of the prior, and statistics as particles would leave them; a few found no room."""
    network = mjp.ReactionNetwork([("X -> Y", 0.5), ("Y -> 0", 1.0)])
    law = PathLaw(mjp.chain(network, np.arange(4.0), initial=[20, 2]), 32)
    rate = np.exp(-0.7 + 0.05 * np.random.default_rng(5).normal(size=(2, 30)))
    paths = np.asarray(law.sample(jax.random.key(0), (2, 30)))
    counts = np.array([np.nan, 7.0, np.nan, 4.0])
    fit = made_fit(decaying, counts, **{"rate": rate, "decay.path": paths})
    shares = np.random.default_rng(6).uniform(0.2, 0.9, size=(2, 30))
    particles = dict.fromkeys(("particle_ess", "renewed", "moved", "jumped"), shares)
    overflow = np.zeros((2, 30), int)
    overflow[1, 3:5] = 2
    return replace(fit, statistics={**fit.statistics, **particles, "overflow": overflow})


def test_a_fit_with_jump_paths_has_a_report(counts_fit, tmp_path):
    page = Page(counts_fit.report(tmp_path / "page.html").read_text(encoding="utf-8"))
    assert {"paths", "phase", "particles"} <= set(page.text)
    assert not {"guide", "occupancy", "series", "traits"} & set(page.text)
    assert "it could not be made" not in page.text["absent"]
    assert "jump paths are sampled with particles, see there" in page.text["absent"]
    assert "ReactionNetwork of X, Y (X -> Y; Y -> 0); a chain of 4 times" in page.text["fitted"]
    assert "without discretisation" in page.text["fitted"]
    assert "observations in the unit of the coordinate" in page.text["paths"]
    for name in ("particle_ess", "ancestors_renewed", "paths_moved", "marginal_acceptance_rate"):
        assert name in page.text["particles"]
        assert counts_fit.data["sample_stats"][name].shape == (2, 30)
    assert "Give a larger max_events" in page.text["particles"]
    assert "4 particles had more events" in page.text["verdict"]
    coordinates = counts_fit.data["paths"]["decay"].coords["coordinate"]
    assert coordinates.values.tolist() == ["X", "Y"]


def test_dropped_particles_are_a_problem(counts_fit):
    [problem] = counts_fit.problems()
    assert problem.startswith("4 particles, in 2 of 60 draws, had more events on an edge")
    none = replace(counts_fit, statistics={"overflow": np.zeros((2, 30), int)})
    assert none.problems() == []


@pytest.mark.parametrize(("share", "overlooked"), [(1e-6, True), (1e-2, False)])
def test_few_dropped_particles_are_told_and_overlooked(counts_fit, share, overlooked):
    shares = {**counts_fit.statistics, "overflow_share": np.full((2, 30), share)}
    fit = replace(counts_fit, statistics=shares)
    assert (fit.problems() == []) == overlooked
    [row] = [check for check in judge(fit).checks if check[0] == "particles without room"]
    assert row[1:] == (
        f"4 ({share:.0e} of all)".replace("1e-02", "0.01"),
        "fewer than 1 in 10,000",
        overlooked,
    )
