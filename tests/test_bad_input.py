"""Malformed declarations are refused, in words that name the argument, the value and what was expected."""

import re

import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import mjp

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAN, INF = float("nan"), float("inf")
MATRIX = np.array([[0.9, 0.1], [0.2, 0.8]])
CHAIN = mjp.MarkovChain(MATRIX)
JUMP = mjp.MarkovJump({("a", "b"): 1.0, ("b", "a"): 0.5, ("b", "d"): 0.3})
TWO, THREE = dist.Categorical(jnp.ones(2) / 2), dist.Categorical(jnp.ones(3) / 3)


def count(x):
    return dist.Poisson(jnp.array([1.0, 2.0])[x])


def jump(rates, states=None, **options):
    return lambda: mjp.MarkovJump(rates, states, **options)


def step(transition, states=None):
    return lambda: mjp.MarkovChain(transition, states)


def chain(process=CHAIN, times=(0, 1, 2), initial=TWO, **options):
    return mjp.chain(process, times, initial=initial, **options)


def chained(process=CHAIN, times=(0, 1, 2), initial=TWO, **options):
    return lambda: mjp.condition(chain(process, times, initial, **options))


def seen(likelihood, values, *args, **options):
    return lambda: mjp.condition(chain(*args, **options).observe_each(likelihood, values))


def edge(*args, process=CHAIN, **options):
    return lambda: mjp.Graph().root("r", 0).edge(*(args or ("r", "c")), process, **options)


def observed(likelihood, value, process=CHAIN, root=0):
    graph = lambda: mjp.Graph().root("r", root).edge("r", "c", process)
    return lambda: mjp.condition(graph().observe("c", likelihood, value))


def frame(states=("a", "b", "a", "b"), times=(0.0, 1.0, 0.0, 2.0), **columns):
    return pd.DataFrame({"id": [1, 1, 2, 2], "time": times, "state": states, **columns})


def panel(states=("a", "b", "a", "b"), process=JUMP, observe=None, initial=None, **columns):
    def build():
        data = frame(states, **columns)
        covariates = [name for name in columns if name != "times"]
        rows = mjp.Panel.from_frame(data, subject="id", time="time", state="state", covariates=covariates)
        likelihood = mjp.Exactly() if observe is None else observe
        return mjp.condition(mjp.panel(process, rows, observe=likelihood, initial=initial))

    return build


def misclassified(matrix=None, **options):
    return mjp.Misclassified(
        np.array([[0.9, 0.1, 0], [0.1, 0.9, 0], [0, 0, 1]]) if matrix is None else matrix, **options
    )


def tree(newick="(a:1,b:1)r;", process=JUMP, initial="a", values=None, **options):
    def build():
        graph = mjp.tree(newick, process, initial=initial, **options)
        return mjp.condition(graph if values is None else graph.observe_each(mjp.Exactly(), values))

    return build


def from_edges(*edges):
    graph = nx.DiGraph()
    graph.add_edges_from(edges)
    return graph


PROCESSES = {
    "negative rate": (jump({("a", "b"): -1.0}), "rate from 'a' to 'b' must be finite and >= 0, got -1"),
    "NaN rate": (jump({("a", "b"): NAN}), "rate from 'a' to 'b' must be finite and >= 0, got nan"),
    "infinite rate": (jump({("a", "b"): INF}), "rate from 'a' to 'b' must be finite and >= 0, got inf"),
    "rate is text": (jump({("a", "b"): "x"}), "rate from 'a' to 'b' must be a number, got 'x'"),
    "rate is a vector": (jump({("a", "b"): [1.0, 2.0]}), "from 'a' to 'b' must be a scalar, got shape (2,)"),
    "self transition": (jump({("a", "a"): 1.0}), "transition from 'a' to itself"),
    "key is no pair": (jump({"ab": 1.0}), "rates must be keyed by (from, to), got the key 'ab'"),
    "no transition": (jump({}), "rates must name at least one transition"),
    "negative entry": (jump([[0, -1.0], [1, 0]]), "the rate from 0 to 1 must be >= 0, got -1"),
    "NaN entry": (jump([[0, NAN], [1, 0]]), "rates must be finite, got nan at index (0, 1)"),
    "ragged rates": (jump([[0, 1], [1]]), "rates must hold numbers, in rows of equal length"),
    "rectangular rates": (jump(np.ones((2, 3))), "rates must have shape (K, K), got (2, 3)"),
    "rates of one axis": (jump(np.ones(2)), "rates must have shape (K, K), got (2,)"),
    "rates are a number": (jump(3.0), "rates must be a matrix or {(from, to): rate}, got float"),
    "rates return nothing": (jump(lambda c: None), "rates must return a matrix or {(from, to): rate}"),
    "state not declared": (jump({("a", "b"): 1.0}, ["a", "c"]), "transition of 'b', which is not in states"),
    "too few states": (jump(np.ones((2, 2)), ["a"]), "states must name the 2 states of rates, got 1"),
    "repeated state": (jump(np.ones((2, 2)), ["a", "a"]), "states must be distinct, got 'a' twice"),
    "states are text": (jump(np.ones((2, 2)), "ab"), "states must be a sequence of labels, got 'ab'"),
    "states are lists": (jump(np.ones((2, 2)), [["a"], ["b"]]), "the label ['a'] in states must be hashable"),
    "breaks unsorted": (
        jump({("a", "b"): 1.0}, breaks=[2.0, 1.0]),
        "breaks must increase strictly, got 2 followed by 1 at index 1",
    ),
    "breaks are a number": (jump({("a", "b"): 1.0}, breaks=1.0), "breaks must be a one-dimensional sequence"),
    "too few pieces": (
        jump({("a", "b"): np.ones(2)}, breaks=[2.0, 3.0]),
        "a scalar or 3 pieces, got shape (2,)",
    ),
    "no pieces": (jump(np.ones((2, 2)), breaks=[1.0]), "rates must have shape (2, K, K), got (2, 2)"),
    "rows sum to two": (step(2 * MATRIX), "transition must sum to 1 over its columns, got 2 in row (0,)"),
    "negative probability": (
        step([[1.5, -0.5], [0, 1]]),
        "must hold probabilities, got -0.5 at index (0, 1)",
    ),
    "NaN probability": (step([[NAN, 1], [0, 1]]), "transition must be finite, got nan at index (0, 0)"),
    "rectangular transition": (step(np.ones((2, 3)) / 3), "transition must have shape (K, K) or (n, K, K)"),
    "transition is text": (step("x"), "transition must hold numbers, in rows of equal length, got 'x'"),
    "transition returns a number": (step(lambda c: 3.0), "transition must have shape (K, K) or (n, K, K)"),
    "transition of few labels": (step(MATRIX, ["a"]), "states must name the 2 states of transition, got 1"),
}

OBSERVATIONS = {
    "errors not summing to one": (
        lambda: misclassified(np.ones((2, 2))),
        "matrix must sum to 1 over its outcomes",
    ),
    "negative error": (
        lambda: misclassified([[1.1, -0.1], [0, 1]]),
        "matrix must hold probabilities, got -0.1",
    ),
    "errors of one axis": (lambda: misclassified([0.5, 0.5]), "matrix must have shape (K, M), got (2,)"),
    "outcomes not named": (
        lambda: misclassified(np.eye(2), labels=["x"]),
        "labels must name 2 outcomes, got 1",
    ),
    "bad transitions": (lambda: mjp.Exactly(transitions=2), "transitions must be True, False or the name"),
    "repeated entry": (lambda: mjp.Exactly(entry=["a", "a"]), "entry must be distinct, got 'a' twice"),
    "entry is a mapping": (lambda: mjp.Exactly(entry={"a": 1}), "entry must be hashable"),
    "entry unknown": (panel(observe=mjp.Exactly(entry="z")), "entry: unknown state 'z'; the states are ['a'"),
    "entry in discrete time": (
        seen(mjp.Exactly(entry=1), [0, 1, 1]),
        "entry, transitions: exact times have no",
    ),
    "exact times in discrete time": (
        seen(mjp.Exactly(transitions=True), [0, 1, 1]),
        "no meaning in discrete time",
    ),
    "column without a panel": (
        seen(mjp.Exactly(transitions="x"), [0, 1, 1]),
        "transitions: 'x' names a column",
    ),
    "column not in the panel": (panel(observe=mjp.Exactly(transitions="x")), "the panel has no column 'x'"),
    "column not 0 or 1": (
        panel(observe=mjp.Exactly(transitions="type"), type=[1, 2, 1, 1]),
        "the column 'type' must hold 0 or 1, got 2 for subject 1 at time 1",
    ),
    "errors for other states": (
        panel(observe=misclassified(np.eye(2))),
        "one row per state (3), got shape (2, 2)",
    ),
    "errors of few outcomes": (panel(observe=misclassified(np.ones((3, 2)) / 2)), "one column per outcome"),
    "a Distribution": (
        seen(dist.Normal(0, 1), [1, 2, 3]),
        "a function of the state that returns a Distribution",
    ),
    "a number": (seen(3, [1, 2, 3]), "likelihood must be mjp.Exactly, mjp.Misclassified or a function"),
    "the class": (
        seen(mjp.Exactly, [0, 1, 1]),
        "likelihood must be an instance, got the class; write Exactly",
    ),
    "a table of too few rows": (
        seen(lambda x: dist.Normal(jnp.zeros(1)[x], 1.0), [1.0, 2.0, 3.0]),
        "likelihood: it looks up the state in a table of 1 rows, but there are 2 states",
    ),
    "no Distribution returned": (
        observed(lambda x: 3.0, 1),
        "likelihood must return a Distribution, got float",
    ),
}

VALUES = {
    "too few": (seen(count, [1, 2]), "values must have one entry per time, shape (3, ...), got shape (2,)"),
    "scalar": (seen(count, 3), "values must have one entry per time, shape (3, ...), got shape ()"),
    "other series": (seen(count, np.zeros((3, 3)), series=2), "values must have 2 series, got shape (3, 3)"),
    "no series": (seen(count, [1, 2, 3], series=2), "values must have shape (2, 3, ...), got (3,)"),
    "negative count": (seen(count, [1, -2, 3]), "node 1: the value -2 is outside the support of Poisson"),
    "half a count": (seen(count, [1, 2.5, 3]), "node 1: the value 2.5 is outside the support of Poisson"),
    "category beyond the last": (
        seen(lambda x: dist.Categorical(jnp.ones((2, 3))[x] / 3), [1, 3, 2]),
        "node 1: the value 3 is outside the support",
    ),
    "infinite": (
        seen(lambda x: dist.Normal(x, 1.0), [1, INF, 3]),
        "node 1: expected a finite value, got inf",
    ),
    "text for numbers": (observed(count, "x"), "node 'c': expected a number, got 'x'"),
    "unknown label": (
        observed(mjp.Exactly(), "z", JUMP, "a"),
        "node 'c': unknown state 'z'; the states are ['a'",
    ),
    "several labels": (observed(mjp.Exactly(), [0, 1]), "node 'c': expected the label of one state"),
    "empty set": (
        observed(mjp.Exactly(), set(), JUMP, "a"),
        "node 'c': a censored state needs at least one label",
    ),
    "set with an unknown label": (
        panel(["a", {"a", "z"}, "a", "b"]),
        "subject 1 at time 1: unknown state 'z'",
    ),
    "set with an unknown outcome": (
        panel(["a", {"a", "z"}, "a", "b"], observe=misclassified()),
        "subject 1 at time 1: unknown state 'z'; expected some of ",
    ),
    "unknown outcome": (
        panel(["a", "z", "a", "b"], observe=misclassified()),
        "subject 1 at time 1: unknown state 'z'",
    ),
    "unknown state in a panel": (panel(["a", "b", "a", "z"]), "subject 2 at time 2: unknown state 'z'"),
    "labels for measurements": (
        panel(observe=lambda x: dist.Normal(x, 1.0), initial=THREE),
        "subject 1 at time 0: expected a number, got 'a'",
    ),
    "contradiction": (
        lambda: mjp.condition(
            mjp.Graph().root("r", "a").edge("r", "c", JUMP).observe("r", mjp.Exactly(), "b")
        ),
        "node 'r': observed both as 'b' and as 'a'",
    ),
}

GRAPHS = {
    "no graph": (lambda: mjp.condition(3), "graph must be a mjp.Graph, got int"),
    "no root": (lambda: mjp.condition(mjp.Graph()), "graph has no root"),
    "no edges": (lambda: mjp.condition(mjp.Graph().root("r", 0)), "graph has no edges"),
    "no process": (edge(process=MATRIX), "process must be a mjp process, got ndarray"),
    "unknown parent": (edge("q", "c"), "parent: unknown node 'q'; declare it by root() or edge() first"),
    "second parent": (lambda: edge()().edge("r", "c", CHAIN), "child: node 'c' exists already"),
    "several parents": (lambda: edge()().edge(("r", "c"), "d", CHAIN), "MarkovChain takes one parent, got 2"),
    "root twice": (lambda: mjp.Graph().root("r", 0).root("r", 1), "name: node 'r' exists already"),
    "root is a list": (lambda: mjp.Graph().root(["r"], 0), "name must be hashable"),
    "unknown node": (lambda: edge()().observe("q", count, 1), "node: unknown node 'q'"),
    "negative duration": (edge(duration=-1.0), "duration of edge 'r' -> 'c' must be >= 0, got -1.0"),
    "NaN duration": (edge(duration=NAN), "duration of edge 'r' -> 'c' must be finite, got nan"),
    "duration is text": (edge(duration="x"), "duration of edge 'r' -> 'c' must hold numbers"),
    "several durations": (edge(duration=[1.0, 2.0]), "duration of edge 'r' -> 'c' must be one number"),
    "NaN start": (edge(start=NAN), "start of edge 'r' -> 'c' must be finite, got nan"),
    "no steps": (edge(steps=0), "steps of edge 'r' -> 'c' must be a positive integer, got 0"),
    "NaN covariate": (
        edge(covariates={"x": NAN}),
        "covariate 'x' of edge 'r' -> 'c' must be finite, got nan",
    ),
    "covariates are a list": (edge(covariates=[1.0]), "covariates must map names to values, got list"),
    "observe_each by hand": (
        lambda: edge()().observe_each(count, [1]),
        "observe_each belongs to graphs made by",
    ),
    "other states": (
        lambda: mjp.condition(edge()().edge("c", "d", JUMP)),
        "all edges of a graph of finite states need the same states, got [0, 1] and ['a', 'b', 'd']",
    ),
    "no room for jumps": (
        lambda: mjp.condition(edge()(), max_jumps=0),
        "max_jumps must be a positive integer, got 0",
    ),
    "half a jump": (lambda: mjp.condition(edge()(), max_jumps=1.5), "max_jumps must be a positive integer"),
    "impossible values": (
        lambda: mjp.condition(
            edge()().observe("c", misclassified(np.eye(2)), 0).observe("c", misclassified(np.eye(2)), 1)
        ),
        "observations up to node 'c' are impossible",
    ),
    "steps without a chain": (
        lambda: mjp.condition(edge(process=mjp.MarkovChain(np.stack([MATRIX] * 3)))()),
        "transition: one matrix per step needs a chain made by mjp.chain",
    ),
}

CHAINS = {
    "no process": (chained(MATRIX), "process must be a mjp process such as mjp.MarkovJump, got ndarray"),
    "times repeated": (
        chained(times=[0, 1, 1]),
        "times must increase strictly, got 1 followed by 1 at index 2",
    ),
    "times unsorted": (
        chained(times=[0, 2, 1]),
        "times must increase strictly, got 2 followed by 1 at index 2",
    ),
    "NaN time": (chained(times=[0, NAN, 1]), "times must be finite, got nan at index (1,)"),
    "times are text": (chained(times=["a", "b"]), "times must hold numbers"),
    "one number for times": (
        chained(times=3),
        "times must be a one-dimensional sequence of times, got shape ()",
    ),
    "no steps": (chained(steps=0), "steps must be a positive integer, got 0"),
    "steps are text": (chained(steps="a"), "steps must be a positive integer, got 'a'"),
    "no series": (chained(series=0), "series must be a positive integer, got 0"),
    "matrices for other steps": (
        chained(mjp.MarkovChain(np.stack([MATRIX] * 5))),
        "transition has 5 steps, but 3 times",
    ),
    "covariate too long": (
        chained(covariates={"x": [1, 2, 3, 4]}),
        "covariate 'x' must have one value per time (3)",
    ),
    "NaN covariate": (
        chained(covariates={"x": [1, NAN, 3]}),
        "covariate 'x' must be finite, got nan at index (1,)",
    ),
    "text covariate": (chained(covariates={"x": ["a", "b", "c"]}), "covariate 'x' must hold numbers"),
    "covariate not there": (
        chained(mjp.MarkovChain(lambda c: MATRIX * c["age"])),
        "MarkovChain reads the covariate 'age', which its edges do not carry",
    ),
    "rows from a covariate": (
        chained(mjp.MarkovChain(lambda c: 2.0 * jnp.array(MATRIX))),
        "transition must sum to 1 over its columns, got 2",
    ),
    "no initial": (chained(initial=None), "initial: the first state at node 0 is None"),
    "initial of three states": (
        chained(initial=THREE),
        "initial must be a Distribution over the 2 states [0, 1]",
    ),
    "initial not of states": (
        chained(initial=dist.Normal(0, 1)),
        "over the 2 states [0, 1], such as dist.Categorical",
    ),
    "initial is an array": (
        chained(initial=jnp.ones(2) / 2),
        "got an array of shape (2,); write dist.Categorical",
    ),
    "initial is a list": (
        chained(initial=[0.5, 0.5]),
        "got an array of shape (2,); write dist.Categorical(probs)",
    ),
    "initial unknown": (chained(initial="z"), "initial: node 0: unknown state 'z'; the states are [0, 1]"),
    "initial for other roots": (
        chained(initial=dist.Categorical(jnp.ones((3, 2)) / 2)),
        "initial has batch shape (3,), but there are 1 roots",
    ),
    "impossible series": (
        seen(misclassified(np.eye(2)), [[0, 0, 0], [0, 1, 1]], mjp.MarkovChain(np.eye(2))),
        "observations of series 1 are impossible under the model",
    ),
    "impossible step": (
        seen(misclassified(np.eye(2)), [0, 0, 1], mjp.MarkovChain(np.eye(2))),
        "observations up to node 2 are impossible under the model",
    ),
    "forbidden step": (
        seen(mjp.Exactly(), [0, 0, 1], mjp.MarkovChain(np.eye(2))),
        "node 2: state 1 cannot be reached from state 0 at node 1 under the model",
    ),
}

TREES = {
    "no tree": (tree(3), "newick must be a string or a networkx.DiGraph, got int"),
    "no length": (tree("(a,b);"), "node 'a' has no branch length"),
    "unbalanced": (tree("((a:1,b:1);"), "'(' at position 0 is not closed"),
    "repeated label": (tree("(a:1,a:1);"), "label 'a' occurs twice"),
    "negative length": (tree("(a:1,b:-1);"), "branch length -1 is not valid"),
    "single node": (tree("a;"), "graph has no edges"),
    "cycle": (tree(from_edges((1, 2, {"length": 1.0}), (2, 1, {"length": 1.0}))), "has a cycle, 1 -> 2 -> 1"),
    "two parents": (
        tree(from_edges((1, 3, {"length": 1.0}), (2, 3, {"length": 1.0}))),
        "node 3 has the parents 1 and 2",
    ),
    "edge without length": (tree(from_edges((1, 2, {}))), "edge 1 -> 2 has no length"),
    "no steps": (tree(steps=0), "steps must be a positive integer, got 0"),
    "covariate missing": (
        tree(covariates={"x": {"a": 1.0}}),
        "covariate 'x' has no value for the edge above 'b'",
    ),
    "covariate is a list": (
        tree(covariates={"x": [1.0]}),
        "covariate 'x' must map names to values, got list",
    ),
    "unknown node": (tree(values={"z": "a"}), "values: 'z' is not a node of the tree"),
    "values are a list": (tree(values=["a"]), "values must map node labels to values, got list"),
    "unknown state": (tree(values={"a": "z"}), "node 'a': unknown state 'z'"),
    "forbidden branch": (
        tree(initial="d", values={"a": "a"}),
        "node 'a': state 'a' cannot be reached from state 'd'",
    ),
    "impossible tips": (
        tree(process=mjp.MarkovChain(np.eye(2)), initial=TWO, values={"a": 0, "b": 1}),
        "the observations are impossible under the model: the likelihood is zero",
    ),
}

PANELS = {
    "no panel": (
        lambda: mjp.panel(JUMP, frame(), observe=mjp.Exactly()),
        "panel must be a mjp.Panel, got DataFrame",
    ),
    "no process": (panel(process=3), "process must be a mjp process such as mjp.MarkovJump, got int"),
    "no likelihood": (panel(observe="x"), "likelihood must be mjp.Exactly, mjp.Misclassified or a function"),
    "time twice": (panel(times=(0.0, 0.0, 1.0, 2.0)), "time: subject 1 has time 0 twice, in rows 0 and 1"),
    "NaN time": (
        panel(times=(0.0, NAN, 1.0, 2.0)),
        "time: subject 1, row 1 is nan; expected a finite number",
    ),
    "first state missing": (panel([None, "a", "a", "b"]), "first state of subject 1 at time 0 is missing"),
    "first state censored": (panel([{"a"}, "a", "a", "b"]), "first state of subject 1 at time 0 is censored"),
    "first state unknown": (panel(["z", "a", "a", "b"]), "subject 1 at time 0: unknown state 'z'"),
    "first state not seen": (
        panel(observe=lambda x: dist.Normal(x, 1.0)),
        "the first state is not seen directly",
    ),
    "first state contradicted": (
        panel(initial="b"),
        "initial: subject 1 at time 0: observed both as 'a' and as 'b'",
    ),
    "unknown covariate": (
        panel(process=mjp.MarkovJump(lambda c: {("a", "b"): c["age"]})),
        "MarkovJump reads the covariate 'age', which its edges do not carry; they carry ['subject']",
    ),
    "negative rate from a covariate": (
        panel(process=mjp.MarkovJump(lambda c: {("a", "b"): c["dose"]}), dose=[1.0, 1.0, -2.0, 1.0]),
        "the rate from 'a' to 'b' must be finite and >= 0, got -2.0 at the covariates {'dose': -2.0}",
    ),
    "forbidden jump": (
        panel(["a", "b", "d", "b"]),
        "subject 2 at time 2: state 'b' cannot be reached from state 'd' at subject 2 at time 0",
    ),
    "forbidden jump after a break": (
        panel(["a", "b", "d", "b"], mjp.MarkovJump({("a", "b"): [1.0, 2.0], ("b", "d"): 1.0}, breaks=[0.5])),
        "subject 2 at time 2: state 'b' cannot be reached from state 'd' at subject 2 at time 0",
    ),
    "forbidden direct jump": (
        panel(["a", "d", "a", "b"], observe=mjp.Exactly(transitions=True)),
        "subject 1 at time 1: state 'd' cannot be reached from state 'a' at subject 1 at time 0 under "
        "the model (rows are exact transition times",
    ),
    "entered from itself": (
        panel(["a", "b", "d", "d"], observe=mjp.Exactly(entry="d")),
        "subject 2 at time 2: state 'd' cannot be reached from state 'd' at subject 2 at time 0 under "
        "the model (its time of entry is exact",
    ),
    "impossible hidden path": (
        panel(["a", "b", "d", "b"], observe=misclassified()),
        "the observations of 1 subjects are impossible under the model: the likelihood is zero, for 2",
    ),
    "impossible first state": (
        panel(observe=misclassified(), initial=dist.Categorical(jnp.array([0.0, 0.0, 1.0]))),
        "the observations of 2 subjects are impossible under the model: the likelihood is zero, for 1, 2",
    ),
    "rates too large": (
        panel(process=mjp.MarkovJump({("a", "b"): 1e12, ("b", "a"): 1.0})),
        "rates times durations are too large",
    ),
}


def cases(**tables):
    return [
        pytest.param(build, words, id=f"{table}: {name}")
        for table, rows in tables.items()
        for name, (build, words) in rows.items()
    ]


@pytest.mark.parametrize(
    ("build", "words"),
    cases(
        process=PROCESSES,
        likelihood=OBSERVATIONS,
        values=VALUES,
        graph=GRAPHS,
        chain=CHAINS,
        tree=TREES,
        panel=PANELS,
    ),
)
def test_malformed_input_is_refused_in_words(build, words):
    with pytest.raises((ValueError, TypeError), match=re.escape(words)):
        build()
