import math

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest

from mjp.newick import parse_newick, to_newick, tree_arrays


def edges(graph):
    return [(parent, child, data["length"]) for parent, child, data in graph.edges(data=True)]


def digraph(*rows, **kwargs):
    graph = nx.DiGraph(**kwargs)
    for parent, child, *length in rows:
        graph.add_edge(parent, child, **({"length": length[0]} if length else {}))
    return graph


def test_parse_reads_names_lengths_and_order():
    graph = parse_newick("((a:1,b:2)ab:0.5,c:1.5)root;")
    assert edges(graph) == [("root", "ab", 0.5), ("root", "c", 1.5), ("ab", "a", 1.0), ("ab", "b", 2.0)]
    assert list(graph) == ["root", "ab", "a", "b", "c"]
    assert graph.graph == {"root": "root"}


def test_unnamed_inner_nodes_are_numbered_in_preorder_passing_over_labels():
    graph = parse_newick("((a:1,(node1:1,c:1):1):1,(d:1,node3:1):1);")
    assert list(graph) == ["node2", "node4", "a", "node5", "node1", "c", "node6", "d", "node3"]
    assert graph.graph["root"] == "node2"


@pytest.mark.parametrize(
    ("text", "names", "lengths"),
    [
        ("a;", ["a"], []),
        ("a:0.5;", ["a"], []),
        ("('it''s':1,'a (b), c;':2)r;", ["r", "it's", "a (b), c;"], [1, 2]),
        ("(Homo_sapiens:1,'two words':2)r;", ["r", "Homo_sapiens", "two words"], [1, 2]),
        (" [&R] ( a [x,(y)] : [&rate=1] 1 ,\n\tb:2 ) r [;] ;\n [end] ", ["r", "a", "b"], [1, 2]),
        ("(a:1e-3,b:2E+2,c:.5,d:3.,e:0)r;", ["r", *"abcde"], [1e-3, 200, 0.5, 3, 0]),
        ("(a:1)r;", ["r", "a"], [1]),
        ("(a:1,b:1)'';", ["node1", "a", "b"], [1, 1]),
        ("(1:1,2:2)3;", ["3", "1", "2"], [1, 2]),
    ],
)
def test_dialects(text, names, lengths):
    graph = parse_newick(text)
    assert list(graph) == names
    assert [length for *_, length in edges(graph)] == lengths


def test_numbers_that_occur_twice_are_support_values():
    graph = parse_newick("((a:1,b:1)90:1,((c:1,d:1)90:1,e:1)100:1);")
    assert list(graph) == ["node1", "node2", "a", "b", "node3", "node4", "c", "d", "e"]
    assert dict(graph.nodes(data="support", default=None)) == {
        **dict.fromkeys(["node1", *"abcde"]),
        "node2": 90.0,
        "node3": 100.0,
        "node4": 90.0,
    }
    assert list(parse_newick("((1:1,2:1)1:1,3:1);")) == ["node1", "node2", "1", "2", "3"]


def test_root_length_is_kept_on_the_graph():
    assert parse_newick("(a:1,b:1)r:0.25;").graph == {"root": "r", "root_length": 0.25}
    assert parse_newick("a:0.5;").graph == {"root": "a", "root_length": 0.5}


def test_default_length_fills_in_all_branches_but_the_root():
    graph = parse_newick("((a,b:2),c)r;", default_length=1)
    assert sorted(edges(graph)) == [
        ("node1", "a", 1.0),
        ("node1", "b", 2.0),
        ("r", "c", 1.0),
        ("r", "node1", 1.0),
    ]
    assert "root_length" not in graph.graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"holds no tree.*position 0"),
        ("  [only a comment]\n", r"holds no tree"),
        (";", r"unexpected ';'; expected the label of a leaf or '\(', at position 0"),
        ("((a:1,b:1):1,c:1;", r"unbalanced.*'\(' at position 0 is not closed.*at position 16 near"),
        ("((a:1,b:1", r"unbalanced.*'\(' at position 1 is not closed.*at position 9"),
        ("(a:1,b:1));", r"unbalanced.*'\)' is outside.*at position 9"),
        ("a:1,b:1;", r"unbalanced.*',' is outside.*position 3"),
        ("(a:1,b:1)", r"the text ends; expected ';', at position 9"),
        ("(a:1,b:1):", r"the text ends; expected a branch length"),
        ("(a:1,b:1); x", r"text follows the semicolon; expected the end.*position 11"),
        ("(a:1,b:1);(c:1,d:1);", r"second tree begins; expected a single tree.*position 10"),
        ("(a,b:1);", r"node 'a' has no branch length.*position 2"),
        ("((a:1,b:1)ab,c:1);", r"node 'ab' has no branch length"),
        ("((a:1,b:1),c:1);", r"node opened at position 1 has no branch length"),
        ("(a:-1,b:1);", r"branch length -1 is not valid; expected a finite number >= 0, at position 3"),
        ("(a:nan,b:1);", r"branch length nan is not valid"),
        ("(a:1e999,b:1);", r"branch length 1e999 is not valid"),
        ("(a:x,b:1);", r"branch length 'x' is not a number; expected.*position 3"),
        ("(a:,b:1);", r"unexpected ','; expected a branch length after ':', at position 3"),
        ("(a:1:2,b:1);", r"unexpected ':'.*after a branch length"),
        ("(a:1,a:1);", r"label 'a' occurs twice.*position 5"),
        ("((a:1,b:1)ab:1,(c:1,d:1)ab:1);", r"label 'ab' occurs twice.*inner nodes too"),
        ("(a:1,);", r"unexpected '\)'; expected the label of a leaf.*position 5"),
        ("(:1,b:1);", r"unexpected ':'; expected the label of a leaf"),
        ("('':1,b:1);", r"leaf has an empty label.*position 1"),
        ("();", r"unexpected '\)'; expected the label of a leaf"),
        ("(two words:1,b:1);", r"unexpected 'words'.*quote labels.*position 5"),
        ("(a:1(b:1));", r"unexpected '\('.*position 4"),
        ("(a:1,b:1)[oops;", r"comment is not closed.*position 9"),
        ("(a:1,b:1]);", r"unexpected '\]'.*position 8"),
        ("('a:1,b:1);", r"quoted label is not closed.*position 1"),
    ],
)
def test_bad_text(text, message):
    with pytest.raises(ValueError, match=message):
        parse_newick(text)


def test_bad_arguments():
    with pytest.raises(TypeError, match=r"text: expected a string.*got int"):
        parse_newick(3)  # pyright: ignore
    with pytest.raises(ValueError, match="default_length: got -1"):
        parse_newick("(a,b);", default_length=-1)


def random_tree(rng, n_nodes):
    graph = nx.DiGraph(root="x0")
    graph.add_node("x0")
    for child in range(1, n_nodes):
        graph.add_edge(f"x{rng.integers(child)}", f"x{child}", length=float(rng.exponential()))
    return graph


@pytest.mark.parametrize("seed", range(10))
def test_round_trip(seed):
    rng = np.random.default_rng(seed)
    graph = random_tree(rng, int(rng.integers(1, 60)))
    graph = nx.relabel_nodes(graph, {"x3": "it's (x), 3;", "x5": "a b"})
    back = parse_newick(to_newick(graph))
    assert set(edges(back)) == set(edges(graph))
    assert to_newick(back) == to_newick(graph)
    assert [list(back.successors(node)) for node in back] == [list(graph.successors(node)) for node in back]


def test_round_trip_keeps_the_root_length():
    text = "((a:1.0,b:2.0)ab:0.5,c:1e-09)root:0.25;"
    assert to_newick(parse_newick(text)) == text


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (digraph(("a", "b", 1.0), ("c", "d", 1.0)), "several roots, 'a' and 'c' among them; expected one"),
        (digraph((1, "1", 1.0)), "same name once written as text"),
        (digraph(("a", "b", jnp.ones(()))), "not a plain number; expected floats"),
    ],
)
def test_graphs_that_newick_cannot_hold(graph, message):
    with pytest.raises(ValueError, match=message):
        to_newick(graph)


def test_a_long_caterpillar_parses():
    n = 100_000
    inner = "".join(f",t{i}:1):1" for i in range(1, n - 1))
    graph = parse_newick("(" * (n - 1) + "t0:1" + inner + f",t{n - 1}:1);")
    assert len(graph) == 2 * n - 1
    assert to_newick(graph).count(",") == n - 1


def test_tree_arrays_is_in_preorder_and_children_keep_their_order():
    names, parents, lengths = tree_arrays(parse_newick("((a:1,b:2)ab:0.5,c:1.5)root;"))
    assert names == ["root", "ab", "a", "b", "c"]
    assert parents.tolist() == [-1, 0, 1, 1, 0]
    assert isinstance(lengths, np.ndarray)
    np.testing.assert_array_equal(lengths, [np.nan, 0.5, 1, 2, 1.5])


def test_tree_arrays_takes_forests_and_the_first_length_attribute():
    graph = nx.DiGraph()
    graph.add_edge(0, 1, duration=2, weight=7.0)
    graph.add_edge(2, 3, weight=np.float32(3))
    graph.add_edge(2, 4, length=np.int64(0), duration=9.0)
    graph.add_node(5)
    names, parents, lengths = tree_arrays(graph)
    assert names == [0, 1, 2, 3, 4, 5]
    assert parents.tolist() == [-1, 0, -1, 2, 2, -1]
    np.testing.assert_array_equal(lengths, [np.nan, 2, np.nan, 3, 0, np.nan])


def test_tree_arrays_does_not_force_traced_lengths():
    def total(length):
        names, _, lengths = tree_arrays(digraph(("r", "a", length), ("r", "b", 2.0)))
        assert isinstance(lengths, list)
        assert names == ["r", "a", "b"]
        assert math.isnan(lengths[0])
        return lengths[1] * lengths[2]

    assert jax.jit(jax.grad(total))(1.0) == 2.0


@pytest.mark.parametrize(
    ("graph", "error", "message"),
    [
        ({"a": "b"}, TypeError, "graph: expected a networkx.DiGraph.*got dict"),
        (nx.Graph([("a", "b")]), TypeError, "expected a networkx.DiGraph.*got Graph"),
        (nx.MultiDiGraph([("a", "b")]), TypeError, "expected a networkx.DiGraph.*got MultiDiGraph"),
        (nx.DiGraph(), ValueError, "no nodes; expected at least a root"),
        (
            digraph(("r", "a", 1), ("b", "c", 1), ("c", "d", 1), ("d", "b", 1)),
            ValueError,
            "cycle, 'b' -> 'c' -> 'd' -> 'b'; expected a tree",
        ),
        (digraph(("b", "c", 1), ("c", "b", 1), ("c", "leaf", 1)), ValueError, "cycle, 'b' -> 'c' -> 'b'"),
        (digraph(("a", "a", 1)), ValueError, "cycle, 'a' -> 'a'"),
        (digraph(("a", "c", 1), ("b", "c", 1)), ValueError, "node 'c' has the parents 'a' and 'b'; expected"),
        (digraph(("a", "b", 1), ("b", "c")), ValueError, "edge 'b' -> 'c' has no length; expected an"),
        (digraph(("a", "b", None)), ValueError, "edge 'a' -> 'b' has no length"),
        (
            digraph(("a", "b", -0.5)),
            ValueError,
            "edge 'a' -> 'b' has length -0.5; expected a finite number >= 0",
        ),
        (digraph(("a", "b", math.nan)), ValueError, "edge 'a' -> 'b' has length nan"),
        (digraph(("a", "b", np.float32("inf"))), ValueError, "edge 'a' -> 'b' has length inf"),
        (digraph(("a", "b", "1.0")), TypeError, "edge 'a' -> 'b' has length '1.0'; expected a number"),
        (digraph(("a", "b", True)), TypeError, "edge 'a' -> 'b' has length True; expected a number"),
        (digraph(("a", "b", np.ones(2))), ValueError, r"edge 'a' -> 'b' has a length of shape \(2,\)"),
    ],
)
def test_bad_graphs(graph, error, message):
    with pytest.raises(error, match=message):
        tree_arrays(graph)
