import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import mjp
from mjp.panels import Panel


def visits(**columns):
    data = {
        "id": ["b", "a", "b", "a", "b"],
        "t": [2.0, 0.0, 0.0, 1.5, 1.0],
        "s": [3, 1, 1, 2, 2],
        "age": [52.0, 40.0, 50.0, 41.5, 51.0],
        "sex": ["m", "f", "m", "f", "m"],
    }
    return pd.DataFrame(data | columns)


def panel(frame=None, covariates=("age", "sex"), **kwargs):
    return Panel.from_frame(visits() if frame is None else frame, "id", "t", "s", list(covariates), **kwargs)


def same(one: Panel, two: Panel) -> bool:
    for field in dataclasses.fields(Panel):
        np.testing.assert_equal(getattr(one, field.name), getattr(two, field.name))
    return one.states.dtype == two.states.dtype


def test_rows_are_sorted_by_first_appearance_then_time():
    p = panel()
    assert p.subjects == ("b", "a")
    assert (p.n_subjects, p.n_rows) == (2, 5)
    assert p.offsets.tolist() == [0, 3, 5]
    assert p.lengths.tolist() == [3, 2]
    assert p.times.tolist() == [0, 1, 2, 0, 1.5]
    assert p.states.tolist() == [1, 2, 3, 1, 2]
    assert p.covariates["age"].tolist() == [50, 51, 52, 40, 41.5]
    assert p.subject_of_row.tolist() == [0, 0, 0, 1, 1]
    assert p.is_first.tolist() == [True, False, False, True, False]
    assert p.is_last.tolist() == [False, False, True, False, True]
    assert p.subject_slice("a") == slice(3, 5)
    assert p.describe_row(4) == "subject a at time 1.5"
    assert p.describe_row(-3) == "subject b at time 2"
    assert repr(p) == "Panel(2 subjects, 5 rows, times 0 to 2, covariates: age, sex)"
    assert repr(panel(covariates=())) == "Panel(2 subjects, 5 rows, times 0 to 2)"


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_the_rows_gives_the_same_panel(seed):
    rng = np.random.default_rng(seed)
    n = 200
    frame = pd.DataFrame(
        {
            "id": rng.integers(0, 30, n),
            "t": rng.permutation(n) / 7,
            "s": rng.choice(np.array(["well", "ill", None, frozenset({"well", "ill"})], object), n),
            "x": rng.normal(size=n),
            "group": rng.choice(["u", "v", "w"], n),
        }
    )
    one = Panel.from_frame(frame, "id", "t", "s", ["x", "group"])
    two = Panel.from_frame(frame.sample(frac=1, random_state=seed), "id", "t", "s", ["x", "group"])
    assert set(one.subjects) == set(two.subjects)
    assert same(one, two.subset(one.subjects))
    assert same(one, Panel.from_frame(one.to_frame(), "subject", "time", "state", ["x", "group"]))


def test_arrays_are_read_only_and_panels_are_compared_by_identity():
    p = panel()
    for array in (p.offsets, p.times, p.states, p.covariates["age"], p.without_states().states):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert p != panel()
    assert len({p, p, panel()}) == 2


def test_the_frame_is_left_alone():
    frame = visits().sort_values(["id", "t"], ascending=[False, True])
    before = frame.copy()
    panel(frame)
    pd.testing.assert_frame_equal(frame, before)
    frame.loc[0, "t"] = 9.0


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([3, 1, 1, 2, 2], [1, 2, 3, 1, 2]),
        ([3.0, 1.0, 1.0, np.nan, 2.0], [1, 2, 3, 1, None]),
        (pd.array([3, 1, 1, None, 2], "Int64"), [1, 2, 3, 1, None]),
        (np.array([3, 1, 1, 2, 2], np.uint8), [1, 2, 3, 1, 2]),
        (["z", "x", "x", None, "y"], ["x", "y", "z", "x", None]),
        (pd.array(["z", "x", "x", pd.NA, "y"], "string"), ["x", "y", "z", "x", None]),
        (pd.Categorical(["z", "x", "x", None, "y"]), ["x", "y", "z", "x", None]),
        (["z", "x", "x", np.nan, "y"], ["x", "y", "z", "x", None]),
        ([3, 1, {1, 2}, (2.0, 3), [1]], [{1, 2}, {1}, 3, 1, {2, 3}]),
        ([True, False, False, True, True], [False, True, True, False, True]),
        ([np.nan] * 5, [None] * 5),
    ],
)
def test_labels(states, expected):
    p = panel(visits(s=states))
    assert p.states.dtype == object
    assert p.states.tolist() == expected
    assert {type(s) for s in p.states} <= {int, str, bool, frozenset, type(None)}


@pytest.mark.parametrize("states", [[0.3, 0.1, 1.0, np.nan, 2.0], np.array([0.3, 0.1, 1, None, 2], object)])
def test_measurements_stay_floats(states):
    p = panel(visits(s=states))
    assert p.states.dtype == np.float64
    np.testing.assert_array_equal(p.states, [1.0, 2.0, 0.3, 0.1, np.nan])


@pytest.mark.parametrize(
    ("values", "levels", "codes"),
    [
        (["m", "f", "m", "f", "m"], ("f", "m"), [1, 1, 1, 0, 0]),
        (
            pd.Categorical(["m", "f", "m", "f", "m"], categories=["x", "m", "f"]),
            ("x", "m", "f"),
            [1, 1, 1, 2, 2],
        ),
        ([True, False, True, False, True], (False, True), [1, 1, 1, 0, 0]),
        (pd.array([True, False, True, None, True], "boolean"), (False, True), [1, 1, 1, 0, 0]),
    ],
)
def test_labels_of_covariates_are_coded(values, levels, codes):
    p = panel(visits(sex=values))
    assert p.levels == {"sex": levels}
    assert p.covariates["sex"].dtype == np.int64
    assert p.covariates["sex"].tolist() == codes
    again = Panel.from_frame(p.to_frame(), "subject", "time", "state", ["age", "sex"])
    assert same(p, again)


def test_a_covariate_may_be_missing_on_the_last_row_only():
    p = panel(visits(age=[np.nan, 40.0, 50.0, np.nan, 51.0]))
    assert p.covariates["age"].tolist() == [50, 51, 51, 40, 40]
    alone = Panel.from_arrays(["a"], [0.0], [1], {"x": [np.nan]})
    assert alone.covariates["x"].tolist() == [0]


def test_drop_missing_leaves_out_rows_with_a_missing_covariate_but_the_last():
    p = panel(visits(age=[52.0, np.nan, np.nan, np.nan, 51.0]), drop_missing=True)
    assert p.subjects == ("b",)
    assert p.times.tolist() == [1, 2]
    assert p.n_dropped == 3
    assert repr(p) == "Panel(1 subjects, 2 rows, times 1 to 2, covariates: age, sex, 3 rows dropped)"
    died = panel(visits(age=[np.nan, 40.0, np.nan, np.nan, 51.0]), drop_missing=True)
    assert (died.n_dropped, died.subjects) == (1, ("b", "a"))
    assert died.times.tolist() == [1, 2, 0, 1.5]
    assert died.covariates["age"].tolist() == [51, 51, 40, 40]
    assert panel(drop_missing=True).n_dropped == 0


def test_ids_that_pandas_made_floats_are_ints_again():
    p = Panel.from_frame(visits(id=[7.0, 3.0, 7.0, 3.0, 7.0]), "id", "t", "s")
    assert p.subjects == (7, 3)
    assert p.describe_row(0) == "subject 7 at time 0"


def test_subset():
    p = panel()
    q = p.subset(["a"])
    assert q.subjects == ("a",)
    assert q.offsets.tolist() == [0, 2]
    assert q.states.tolist() == [1, 2]
    assert q.levels == p.levels
    assert same(p.subset(["a", "b"]).subset(["b", "a"]), p)
    assert p.subset(label for label in p.subjects).n_subjects == 2


def test_with_states_and_without_states():
    p = panel()
    assert p.with_states(np.array([1.0, np.nan, 3.0, 1.0, 1.0])).states.tolist() == [1, None, 3, 1, 1]
    assert p.with_states(["x", {"x", "y"}, None, "x", "y"]).states.tolist() == [
        "x",
        {"x", "y"},
        None,
        "x",
        "y",
    ]
    assert p.without_states().states.tolist() == [None] * 5
    measured = p.with_states(np.linspace(0, 1, 5))
    assert measured.states.dtype == np.float64
    assert np.isnan(measured.without_states().states).all()
    for whole in (np.arange(5), [0, 1, 2, None, 4]):
        assert measured.with_states(whole).states.dtype == np.float64
    assert p.states.tolist() == [1, 2, 3, 1, 2]


def test_from_arrays_needs_no_pandas():
    code = """if True:
        import sys
        from mjp.panels import Panel
        p = Panel.from_arrays([1, 1], [0, 1], ["x", "y"], {"z": ["a", "b"]})
        assert p.states.tolist() == ["x", "y"] and p.levels == {"z": ("a", "b")}
        print("pandas" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_subject_may_have_one_row_and_a_label_may_be_a_tuple():
    p = Panel.from_arrays([("a", 1), ("b", 2), ("a", 1)], [1, 0, 0], [1, 2, 3])
    assert p.subjects == (("a", 1), ("b", 2))
    assert p.lengths.tolist() == [2, 1]
    assert p.to_frame()["subject"].tolist() == [("a", 1), ("a", 1), ("b", 2)]


def test_a_million_rows():
    rng = np.random.default_rng(0)
    n = 1_000_000
    labels = rng.choice(["u", "v"], n).tolist()
    p = Panel.from_arrays(rng.integers(0, 100_000, n), rng.random(n), rng.integers(1, 5, n), {"x": labels})
    assert p.n_rows == n
    assert np.all(np.diff(p.times)[~p.is_first[1:]] > 0)


NAN = np.nan


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"id": ["b", None, "b", "a", "b"]}, ValueError, "subject: row 1 is missing"),
        ({"id": [2, NAN, 2, 1, 2]}, ValueError, "subject: row 1 is missing"),
        (
            {"id": ["b", ["a"], "b", "a", "b"]},
            TypeError,
            r"subject: row 1 holds \['a'\]; expected a hashable",
        ),
        ({"t": [2, 0, 0, NAN, 1]}, ValueError, "time: subject a, row 3 is nan; expected a finite number"),
        ({"t": [2, 0, -np.inf, 1, 1]}, ValueError, "time: subject b, row 2 is -inf"),
        (
            {"t": [2, 0, 0, 1, 2.0]},
            ValueError,
            "time: subject b has time 2 twice, in rows 0 and 4; expected distinct",
        ),
        ({"t": ["2", "0", "0", "1", "1"]}, TypeError, "time: subject b, row 0 is '2'; expected a number"),
        ({"t": [True, False] * 2 + [True]}, TypeError, "time: got bools, expected numbers"),
        (
            {"t": pd.date_range("2020", periods=5)},
            TypeError,
            "time: got dates.*days since the first visit.*years",
        ),
        ({"t": pd.date_range("2020", periods=5, tz="UTC")}, TypeError, "time: got dates"),
        ({"t": pd.to_timedelta(range(5), "D")}, TypeError, "time: got dates or durations"),
        (
            {"s": [3, 1, np.inf, 2, 2]},
            ValueError,
            r"state: subject b at time 0 \(row 2\) is inf; expected a finite",
        ),
        ({"s": ["x", -np.inf, "y", "x", "y"]}, ValueError, r"state: subject a at time 0 \(row 1\) is -inf"),
        ({"s": [3, set(), 1, 2, 2]}, ValueError, r"state: subject a at time 0 \(row 1\) is an empty set"),
        (
            {"s": [3, 1, {1, None}, 2, 2]},
            ValueError,
            r"state: subject b at time 0 \(row 2\).*expected labels only",
        ),
        (
            {"s": [3, 1, {"x": 1}, 2, 2]},
            TypeError,
            r"state: subject b at time 0 \(row 2\) is \{'x': 1\}; expected",
        ),
        (
            {"s": [0.5, 1, 1.5, "n/a", 2]},
            TypeError,
            r"subject a at time 1.5 \(row 3\) is 'n/a', while other rows",
        ),
        ({"s": pd.date_range("2020", periods=5)}, TypeError, "state: got dates"),
        (
            {"age": [52, NAN, 50, 41, NAN]},
            ValueError,
            r"covariate 'age': subject b at time 1 \(row 4\) is missing \(the first of 2\).*drop_missing",
        ),
        (
            {"sex": ["m", None, "m", "f", "m"]},
            ValueError,
            r"covariate 'sex': subject a at time 0 \(row 1\) is missing",
        ),
        (
            {"age": [52, 40, 50, 41, np.inf]},
            ValueError,
            r"covariate 'age': subject b at time 1 \(row 4\) is inf",
        ),
        (
            {"sex": ["m", 1, "m", "f", "m"]},
            TypeError,
            "covariate 'sex': got values of type int, str; expected",
        ),
        (
            {"sex": pd.date_range("2020", periods=5)},
            TypeError,
            "covariate 'sex': got .*datetime.*expected numbers",
        ),
    ],
)
def test_bad_values(columns, error, message):
    with pytest.raises(error, match=message):
        panel(visits(**columns))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"frame": {"id": [1]}}, TypeError, "frame: expected a pandas DataFrame, got dict"),
        ({"frame": visits().iloc[:0]}, ValueError, "no rows; expected at least one"),
        (
            {"time": "years"},
            ValueError,
            "time: the frame has no column 'years'; its columns are 'id', 't', 's', 'age'",
        ),
        ({"covariates": ["bmi"]}, ValueError, "covariates: the frame has no column 'bmi'"),
        ({"covariates": "age"}, TypeError, r"covariates: expected a list.*write \['age'\]"),
        (
            {"covariates": ["t"]},
            ValueError,
            "covariates: column 't' is already used as time; expected distinct",
        ),
        (
            {"covariates": ["age", "age"]},
            ValueError,
            "covariates: column 'age' is already used as covariates",
        ),
        ({"state": "id"}, ValueError, "state: column 'id' is already used as subject"),
        ({"state": ["s"]}, TypeError, r"state: expected the name of a column, got \['s'\]"),
        (
            {"frame": visits().rename(columns={"age": "t"})},
            ValueError,
            "time: the frame has 2 columns named 't'",
        ),
        (
            {"frame": visits().rename(columns={"age": "time"}), "covariates": ["time"]},
            ValueError,
            "covariates: the name 'time' is taken by the panel",
        ),
        (
            {"frame": visits(age=NAN), "covariates": ["age"], "drop_missing": True},
            ValueError,
            "drop_missing: no row is left; every row misses one of age",
        ),
    ],
)
def test_bad_frames(change, error, message):
    with pytest.raises(error, match=message):
        Panel.from_frame(**{"frame": visits(), "subject": "id", "time": "t", "state": "s"} | change)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1, 1], [0, 1, 2], [1, 1]), ValueError, "time: got 3 values, expected 2"),
        (([1, 1], [0, 1], [1]), ValueError, "state: got 1 values, expected 2"),
        (([1, 1], [0, 1], [1, 1], {"x": [1]}), ValueError, "covariate 'x': got 1 values, expected 2"),
        (([], [], []), ValueError, "subject: there are no rows"),
        (("ab", [0, 1], [1, 1]), TypeError, "subject: expected a sequence.*got 'ab'"),
        (([1, 1], 0, [1, 1]), TypeError, "time: expected a sequence.*got 0"),
        (
            ([1, 1], [0, 1], np.ones((2, 2))),
            ValueError,
            r"state: expected one value per row.*got shape \(2, 2\)",
        ),
        (([1, 1], [0, 1], [1, 1], ["x"]), TypeError, "covariates: expected columns by name.*got list"),
    ],
)
def test_bad_arrays(arguments, error, message):
    with pytest.raises(error, match=message):
        Panel.from_arrays(*arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: p.subset(["c"]), ValueError, "subject: 'c' is not in the panel; expected one of 'b', 'a'"),
        (lambda p: p.subset("a"), TypeError, r"subjects: expected a list of labels.*write \['a'\]"),
        (lambda p: p.subset([]), ValueError, "subjects: got none, expected at least one"),
        (lambda p: p.subset(["a", "b", "a"]), ValueError, "subjects: 'a' is named twice"),
        (lambda p: p.subject_slice(7), ValueError, "subject: 7 is not in the panel"),
        (lambda p: p.with_states([1, 2]), ValueError, "states: got 2 values, expected 5, one per row"),
        (lambda p: p.with_states([1, 2, np.inf, 1, 1]), ValueError, "state: subject b at time 2 is inf"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(panel())


def test_a_chain_in_discrete_time_takes_rows_that_are_one_step_apart():
    transition = np.array([[0.9, 0.1], [0.2, 0.8]])
    chain = mjp.MarkovChain(transition, states=["a", "b"])
    build = lambda times: mjp.panel(
        chain, Panel.from_arrays([1] * len(times), times, ["a"] * len(times), {}), observe=mjp.Exactly()
    )
    found = mjp.condition(build([2010.0, 2011.0, 2012.003])).log_evidence
    np.testing.assert_allclose(found, [2 * np.log(0.9)], rtol=1e-6)
    with pytest.raises(ValueError, match="row after subject 1 at time 2 comes 3 later; give a row"):
        build([0.0, 1.0, 2.0, 5.0])
