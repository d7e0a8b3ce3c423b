"""Malformed reaction networks are refused, in words that name reaction, value and expectation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import mjp

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAN, INF = float("nan"), float("inf")
SIR = mjp.ReactionNetwork([("S + I -> 2 I", 0.1), ("I -> R", 1.0)])


def network(*reactions, species=None, **options):
    return lambda: mjp.ReactionNetwork(list(reactions), species, **options)


def one(text, rate=1.0, **options):
    return network((text, rate), **options)


def arrays(*args, **options):
    return lambda: mjp.ReactionNetwork.from_stoichiometry(*args, **options)


def chain(initial, process=SIR):
    return lambda: mjp.chain(process, [0.0, 1.0], initial=initial)


def drawn(text, rate, initial, key=0, **options):
    def draw():
        process = mjp.ReactionNetwork([(text, rate)])
        return mjp.simulate(mjp.chain(process, [2.0, 30.0], initial=initial), jax.random.key(key), **options)

    return draw


DECLARED = {
    "not a list": (lambda: mjp.ReactionNetwork("A -> B"), "reactions must be a list of pairs"),
    "a mapping": (lambda: mjp.ReactionNetwork({"A -> B": 1.0}), "reactions must be a list of pairs"),
    "no reactions": (network(), "must hold at least one pair"),
    "not a pair": (network("A -> B"), "must hold pairs ('S + I -> 2 I', rate), got 'A -> B'"),
    "reaction is a number": (one(3), "must be a string such as 'S + I -> 2 I', got 3"),
    "no arrow": (one("A + B"), "'A + B' must have one arrow '->', got none"),
    "two arrows": (one("A -> B -> C"), "must have one arrow '->', got 2"),
    "both ways": (one("A <-> B"), "must have one arrow '->', got '<->'"),
    "empty term": (one("A + -> B"), "'A + -> B' has the term ''"),
    "fraction": (one("1.5 A -> B"), "has the term '1.5 A'; expected a species, or an integer and a species"),
    "negative multiple": (one("-2 A -> B"), "has the term '-2 A'"),
    "zero multiple": (one("0 A -> B"), "has the multiple 0; expected a positive integer"),
    "two names": (one("A B -> C"), "has the term 'A B'"),
    "nothing at all": (one("0 -> 0"), "'0 -> 0' names no species"),
    "unknown species": (one("A -> B", species=["A"]), "has the species 'B', which is not in species ['A']"),
    "species twice": (one("A -> B", species=["A", "A"]), "species must be distinct, got 'A' twice"),
    "species is text": (one("A -> B", species="AB"), "species must be a sequence of labels, got 'AB'"),
    "species is a number": (one("A -> B", species=[1, "A"]), "species must be named by letters"),
    "reaction twice": (network(("A -> B", 1.0), ("1 A -> B", 2.0)), "'A -> B' occurs twice"),
    "negative rate": (one("A -> B", -1.0), "the rate of 'A -> B' must be finite and >= 0, got -1.0"),
    "NaN rate": (one("A -> B", NAN), "the rate of 'A -> B' must be finite and >= 0, got nan"),
    "infinite rate": (one("A -> B", INF), "the rate of 'A -> B' must be finite and >= 0, got inf"),
    "rate is text": (one("A -> B", "1"), "the rate of 'A -> B' must be a number or a propensity"),
    "rate is None": (one("A -> B", None), "the rate of 'A -> B' must be"),
    "rate is a vector": (one("A -> B", [1.0, 2.0]), "must be a scalar (or give breaks), got shape (2,)"),
    "too few pieces": (
        one("A -> B", [1.0, 2.0], breaks=[1.0, 2.0]),
        "must be a scalar or 3 pieces, got shape (2,)",
    ),
    "breaks unsorted": (one("A -> B", breaks=[2.0, 1.0]), "breaks must increase strictly"),
    "propensity of three": (
        one("A -> B", lambda t, x, y: 1.0),
        "must take (x) or (t, x), got a function of 3",
    ),
    "propensity of time": (one("A -> B", lambda t, x: t * x["A"]), "takes (t, x), but there are no breaks"),
    "propensity of another species": (
        one("A -> B", lambda x: x["C"]),
        "the propensity of 'A -> B': unknown species 'C'; the species are ['A', 'B']",
    ),
    "propensity returns text": (one("A -> B", lambda x: None), "must return a number, got NoneType"),
    "propensity returns a vector": (
        one("A -> B", lambda x: jnp.ones(2)),
        "the propensity of 'A -> B' must return a scalar, got shape (2,)",
    ),
    "change of one axis": (
        arrays([1, 0], [1.0], ["A", "B"]),
        "change must have shape (reactions, 2), got (2,)",
    ),
    "change is fractional": (arrays([[0.5, 0]], [1.0], ["A", "B"]), "change must hold integers, got 0.5"),
    "too few rates": (
        arrays([[1, 0], [0, 1]], [1.0], ["A", "B"]),
        "rates must have one entry per reaction (2), got 1",
    ),
    "takes more than its reactants": (
        arrays([[-2, 0]], [1.0], ["A", "B"], reactants=[[1, 0]]),
        "reaction 0 takes 2 of 'A', but has 1 of it as reactants; its count would become negative",
    ),
    "negative reactants": (
        arrays([[1, 0]], [1.0], ["A", "B"], reactants=[[-1, 0]]),
        "reactants must be >= 0, got -1",
    ),
    "initial of another species": (chain({"S": 1, "Z": 2}), "initial has the unknown species 'Z'"),
    "initial lacks a species": (chain({"S": 1, "I": 2}), "initial has no count of 'R'"),
    "initial too short": (chain([1, 2]), "initial must be counts of the species S, I, R, got shape (2,)"),
    "initial negative": (chain([1, -2, 0]), "initial must hold integers from 0 to 2^30, got -2"),
    "initial fractional": (chain([1, 0.5, 0]), "got 0.5 for the species 'I'"),
    "initial NaN": (chain([1, NAN, 0]), "got nan for the species 'I'"),
    "initial is text": (chain("S"), "initial must be counts of the species S, I, R, got 'S'"),
    "initial is None": (chain(None), "initial must be counts of the species S, I, R, got None"),
    "initial of one count": (
        chain(dist.Poisson(3.0)),
        "initial must be a Distribution with event shape (3,)",
    ),
    "initial is continuous": (
        chain(dist.Normal(jnp.ones(3), 1.0).to_event(1)),
        "initial must be a Distribution of counts",
    ),
    "initial of a tree": (
        lambda: mjp.tree("(a:1,b:1)r;", SIR, initial=[1, 2]),
        "initial must be counts of the species S, I, R, got shape (2,)",
    ),
    "initial of a root": (
        lambda: mjp.Graph().root("r", {"S": 1}).edge("r", "c", SIR),
        "initial of root 'r' has no count of 'I'",
    ),
    "exact values negative": (
        lambda: chain([9, 1, 0])().observe_each(mjp.Exactly(), [[9, 1, 0], [8, -1, 3]]),
        "values must hold integers from 0 to 2^30, got -1 for the species 'I'",
    ),
    "likelihood of another species": (
        lambda: chain([9, 1, 0])().observe_each(lambda x: dist.Poisson(x["Z"]), [1.0, 2.0]),
        "unknown species 'Z'",
    ),
    "states beyond the bound": (
        lambda: mjp.ReactionNetwork([("0 -> X", 1.0)]).truncated([0]),
        "more than max_states=2000 states can be reached",
    ),
    "start beyond the bound": (lambda: SIR.truncated([9, 1, 0], total=5), "is outside of the bounds"),
    "bound of another species": (
        lambda: SIR.reachable([9, 1, 0], bounds={"Z": 1}),
        "bounds: unknown species",
    ),
}

SIMULATED = {
    "negative propensity": (
        drawn("X -> 0", lambda x: 3.0 - x["X"], [4]),
        r"the propensity of 'X -> 0' must be finite and >= 0, got -1 in the state X=4 at time 2",
    ),
    "propensity that becomes negative": (
        drawn("0 -> X", lambda x: 4.5 - x["X"], [0], paths=False),
        r"the propensity of '0 -> X' must be finite and >= 0, got -0.5 in the state X=5 at time \d",
    ),
    "infinite propensity": (
        drawn("X -> 0", lambda x: 1.0 / (x["X"] - 2.0), [4]),
        r"the propensity of 'X -> 0' must be finite and >= 0, got inf in the state X=2 at time \d",
    ),
    "NaN propensity": (
        drawn("X -> 0", lambda x: jnp.log(x["X"] - 3.0), [1]),
        r"the propensity of 'X -> 0' must be finite and >= 0, got nan in the state X=1 at time 2",
    ),
    "negative count": (
        drawn("2 X -> 0", lambda x: x["X"], [5], replicates=3),
        r"the propensity of '2 X -> 0' must be zero where its reactants are not there, got 1 in the state X",
    ),
    "catalyst that is absent": (
        drawn("E + X -> E", lambda x: x["X"], [0, 3]),
        r"must be zero where its reactants are not there, got 3 in the state E=0, X=3 at time 2",
    ),
    "initial law of negative counts": (
        lambda: mjp.simulate(
            mjp.chain(SIR, [0.0, 1.0], initial=dist.DiscreteUniform(-3 * np.ones(3), -1).to_event(1)),
            jax.random.key(0),
        ),
        r"a draw of initial must hold integers from 0 to 2\^30, got -",
    ),
    "no replicates": (
        drawn("X -> 0", 1.0, [4], replicates=0),
        "replicates must be a positive integer, got 0",
    ),
    "no events": (drawn("X -> 0", 1.0, [4], max_events=-1), "max_events must be a positive integer, got -1"),
}


@pytest.mark.parametrize("name", DECLARED)
def test_declarations(name):
    make, words = DECLARED[name]
    with pytest.raises((ValueError, TypeError, KeyError), match=re.escape(words)):
        make()


@pytest.mark.parametrize("name", SIMULATED)
def test_simulations(name):
    make, words = SIMULATED[name]
    with pytest.raises(ValueError, match=words):
        make()


def test_explosions_are_stopped():
    with pytest.raises(
        RuntimeError, match="more than event_limit=1000 events on one edge; the last state was X="
    ):
        drawn("X -> 2 X", 9.0, [1], event_limit=1000)()


def test_counts_are_not_misclassified():
    graph = mjp.chain(SIR, [0.0, 1.0], initial=[9, 1, 0]).observe_each(mjp.Misclassified(np.eye(2)), None)
    with pytest.raises(TypeError, match="Misclassified is for finitely many states"):
        mjp.simulate(graph, jax.random.key(0))


def test_networks_on_different_species_do_not_mix():
    other = mjp.ReactionNetwork([("A + B -> 0", 1.0), ("C -> 0", 1.0)])
    graph = mjp.Graph().root("r", [1, 2, 3]).edge("r", "a", SIR).edge("a", "b", other)
    with pytest.raises(ValueError, match="all reaction networks must have the same species"):
        mjp.simulate(graph, jax.random.key(0))


def test_faults_inside_of_compiled_functions_are_counted():
    graph = mjp.chain(mjp.ReactionNetwork([("X -> 0", lambda x: 3.0 - x["X"])]), [0.0, 1.0], initial=[4])
    draw = jax.jit(lambda key: mjp.simulate(graph, key))(jax.random.key(0))
    assert int(draw.invalid) == 1
    assert int(draw.overflow) == 0
    negative = jax.jit(
        lambda rate: (
            mjp.simulate(
                mjp.chain(mjp.ReactionNetwork([("X -> 0", rate)]), [0.0, 1.0], initial=[4]), jax.random.key(0)
            ).invalid
        )
    )
    assert int(negative(-1.0)) == int(negative(NAN)) == int(negative(INF)) == 1
    assert int(negative(1.0)) == 0
