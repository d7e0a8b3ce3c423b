"""Trees: the Newick format, and directed graphs checked to be rooted trees."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import count
from typing import Any, NoReturn

import networkx as nx
import numpy as np

LENGTH_ATTRIBUTES = ("length", "duration", "weight")

_TOKEN = re.compile(
    r"""(?P<skip> \s+ | \[[^\]]*\] )
      | (?P<mark> [(),:;] )
      | '(?P<quoted> [^']*(?:''[^']*)* )'
      | (?P<word> [^\s()\[\]',:;]+ )""",
    re.VERBOSE,
)
_UNREADABLE = {
    "[": "a comment is not closed; expected ']'",
    "]": "unexpected ']'; expected '[' before it",
    "'": 'a quoted label is not closed; expected "\'"',
}
_PLAIN = re.compile(r"[^\s()\[\]',:;]+")


def parse_newick(text: str, default_length: float | None = None) -> nx.DiGraph:
    """Read one tree in Newick format, such as `((a:1,b:1):0.5,c:1.5);`.

    Labels may be quoted (`'it''s'`), underscores are kept as they are, and `[comments]` are skipped. Inner
    nodes without a label are called `node1`, `node2`, ... in preorder, passing over labels in the text. So
    are those whose labels are numbers, if one of them occurs twice: these are not names but support values,
    such as bootstrap percentages, and are kept as the attribute `support` of the nodes.

    Args:
        text: the tree, ending with a semicolon.
        default_length: length given to branches that state none.

    Returns:
        Graph directed from the root to the leaves, nodes in preorder. Edges have the attribute `length`; the
        graph has the attributes `root` and, if the text states a length for the root, `root_length`.

    Raises:
        TypeError: `text` is not a string.
        ValueError: the text is not one valid tree, a label occurs twice, a leaf has no label, or a branch
            length is missing, negative or not finite; the message gives the position in the text, from 0.
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a string in Newick format, got {type(text).__name__}")
    if default_length is not None and not (math.isfinite(default_length) and default_length >= 0):
        raise ValueError(f"default_length: got {default_length}, expected a finite number >= 0")

    # One entry per node, in preorder.
    labels: list[str] = []
    parents: list[int] = []
    lengths: list[float | None] = []
    starts: list[int] = []
    taken: set[str] = set()
    numbers: dict[int, tuple[str, int]] = {}  # labels of inner nodes that are numbers, with their positions
    open_nodes: list[int] = []

    def fail(position: int, problem: str) -> NoReturn:
        excerpt = text[max(0, position - 12) : position + 12]
        raise ValueError(f"newick: {problem}, at position {position} near {excerpt!r}")

    def unclosed() -> str:
        return f"unbalanced parentheses: '(' at position {starts[open_nodes[-1]]} is not closed; expected ')'"

    def add(position: int) -> int:
        labels.append("")
        parents.append(open_nodes[-1] if open_nodes else -1)
        lengths.append(None)
        starts.append(position)
        return len(labels) - 1

    def name(node: int, label: str, position: int) -> None:
        if label in taken:
            fail(position, f"label {label!r} occurs twice; expected distinct labels, on inner nodes too")
        taken.add(label)
        labels[node] = label

    # What may come next: "node" is a subtree; after ")" it is a "label" or what follows one, after a label a
    # "colon" or what follows a length; after a colon a "length", and then the "end" of the subtree.
    state, node = "node", -1
    for kind, token, position in _tokens(text, fail):
        if state == "nothing":
            if ";" in text[position:]:
                fail(position, "a second tree begins; expected a single tree, parse the others one by one")
            fail(position, "text follows the semicolon; expected the end of the text")
        elif kind == "label":
            if state == "node" and not token:
                fail(position, "a leaf has an empty label; expected a name")
            elif state == "node":
                node = add(position)
                name(node, token, position)
                state = "colon"
            elif state == "label":
                if _is_number(token):
                    numbers[node] = (token, position)
                elif token:
                    name(node, token, position)
                state = "colon"
            elif state == "length":
                lengths[node] = _length(token, partial(fail, position))
                state = "end"
            else:
                fail(
                    position,
                    f"unexpected {token!r}; expected ':', ',', ')' or ';' (quote labels with blanks)",
                )
        elif state == "length":
            fail(position, f"unexpected {token!r}; expected a branch length after ':'")
        elif token == "(":
            if state != "node":
                fail(position, "unexpected '('; expected ',', ')' or ';' after a node")
            open_nodes.append(add(position))
        elif state == "node":
            fail(position, f"unexpected {token!r}; expected the label of a leaf or '('")
        elif token == ":":
            if state == "end":
                fail(position, "unexpected ':'; expected ',', ')' or ';' after a branch length")
            state = "length"
        else:
            if not open_nodes and token != ";":
                fail(position, f"unbalanced parentheses: {token!r} is outside of any '('; expected ';'")
            if open_nodes and token == ";":
                fail(position, unclosed())
            if open_nodes and lengths[node] is None:
                if default_length is None:
                    which = repr(labels[node]) if labels[node] else f"opened at position {starts[node]}"
                    fail(position, f"node {which} has no branch length; expected one after ':'")
                lengths[node] = float(default_length)
            if token == ")":
                node = open_nodes.pop()
            state = {",": "node", ")": "label", ";": "nothing"}[token]

    if state != "nothing":
        if not labels:
            fail(0, "the text holds no tree; expected one, such as '(a:1,b:1);'")
        if open_nodes:
            fail(len(text), unclosed())
        fail(len(text), f"the text ends; expected {'a branch length' if state == 'length' else repr(';')}")

    support = {}
    distinct = {label for label, _ in numbers.values()}
    if len(distinct) < len(numbers) or distinct & taken:
        support = {node: float(label) for node, (label, _) in numbers.items()}
    else:
        for inner, (label, position) in numbers.items():
            name(inner, label, position)
    free = (candidate for i in count(1) if (candidate := f"node{i}") not in taken)
    names = [label or next(free) for label in labels]
    graph = nx.DiGraph(root=names[0])
    if lengths[0] is not None:
        graph.graph["root_length"] = lengths[0]
    graph.add_nodes_from(names)
    nx.set_node_attributes(graph, {names[node]: value for node, value in support.items()}, "support")
    graph.add_edges_from(
        (names[parent], child, {"length": length})
        for child, parent, length in zip(names[1:], parents[1:], lengths[1:], strict=True)
    )
    return graph


def _tokens(text: str, fail: Callable[[int, str], NoReturn]) -> Iterator[tuple[str, str, int]]:
    """Marks and labels as (kind, token, position); blanks and comments are left out."""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            fail(position, _UNREADABLE[text[position]])
        if match.lastgroup == "mark":
            yield "mark", match["mark"], position
        elif match.lastgroup == "quoted":
            yield "label", match["quoted"].replace("''", "'"), position
        elif match.lastgroup == "word":
            yield "label", match["word"], position
        position = match.end()


def _is_number(token: str) -> bool:
    try:
        return math.isfinite(float(token))
    except ValueError:
        return False


def _length(token: str, fail: Callable[[str], NoReturn]) -> float:
    try:
        length = float(token)
    except ValueError:
        fail(f"branch length {token!r} is not a number; expected one such as 0.5 or 1e-3")
    if not math.isfinite(length) or length < 0:
        fail(f"branch length {token} is not valid; expected a finite number >= 0")
    return length


def to_newick(graph: nx.DiGraph) -> str:
    """Write a rooted tree in Newick format; `parse_newick` reads it back, names as strings.

    Raises:
        TypeError, ValueError: as `tree_arrays`; also if there are several roots, two names are written alike,
            or a length is an array.
    """
    names, parents, lengths = tree_arrays(graph)
    if np.sum(parents == -1) > 1:
        roots = [names[i] for i in np.flatnonzero(parents == -1)[:2]]
        raise ValueError(f"graph: has several roots, {roots[0]!r} and {roots[1]!r} among them; expected one")
    if len({str(name) for name in names}) < len(names):
        raise ValueError("graph: two nodes have the same name once written as text; expected distinct names")
    if isinstance(lengths, list):
        raise ValueError("graph: a branch length is not a plain number; expected floats")
    children: list[list[int]] = [[] for _ in names]
    for node, parent in enumerate(parents[1:].tolist(), start=1):
        children[parent].append(node)

    pieces: list[str] = []
    todo: list[int | str] = [";", 0]  # what is still to be written, last first: a subtree or a piece of text
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            pieces.append(item)
            continue
        length = lengths[item] if item else graph.graph.get("root_length")
        label = _quoted(str(names[item])) + ("" if length is None else f":{float(length)!r}")
        if not children[item]:
            pieces.append(label)
            continue
        pieces.append("(")
        todo.append(")" + label)
        for child in reversed(children[item][1:]):
            todo += [child, ","]
        todo.append(children[item][0])
    return "".join(pieces)


def _quoted(label: str) -> str:
    return label if _PLAIN.fullmatch(label) else "'" + label.replace("'", "''") + "'"


def tree_arrays(graph: nx.DiGraph) -> tuple[list[Hashable], np.ndarray, np.ndarray | list]:
    """Check that a graph is a rooted tree, or a forest of them, and flatten it.

    The length of an edge is its attribute `length`, else `duration`, else `weight`.

    Returns:
        names: the n nodes in preorder, so that a parent comes before its children.
        parents: (n,) position of every node's parent in `names`, -1 for a root.
        lengths: (n,) length of the edge from the parent, NaN for a root. A list, with the values left as they
            are, if some length is an array (traced by JAX, say); only plain numbers are checked.

    Raises:
        TypeError: `graph` is not a `networkx.DiGraph`, or a length is not a number.
        ValueError: the graph is empty, a node has several parents, there is a cycle, or an edge has no length
            or one that is negative or not finite; the message names the nodes.
    """
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise TypeError(
            f"graph: expected a networkx.DiGraph with edges from parent to child, got {type(graph).__name__}"
        )
    if not graph:
        raise ValueError("graph: has no nodes; expected at least a root")
    parent_of: dict[Hashable, Hashable] = {}
    length_of: dict[Hashable, Any] = {}
    children: dict[Hashable, list[Hashable]] = {node: [] for node in graph}
    for parent, child, attributes in graph.edges(data=True):
        if child in parent_of:
            several = " and ".join(map(repr, graph.predecessors(child)))
            raise ValueError(f"graph: node {child!r} has the parents {several}; expected at most one")
        parent_of[child] = parent
        length_of[child] = _edge_length(f"edge {parent!r} -> {child!r}", attributes)
        children[parent].append(child)

    names: list[Hashable] = []
    todo = [node for node in graph if node not in parent_of][::-1]
    while todo:
        names.append(node := todo.pop())
        todo.extend(reversed(children[node]))
    position = {name: i for i, name in enumerate(names)}
    if len(names) < len(graph):
        start = next(node for node in graph if node not in position)
        cycle = " -> ".join(map(repr, _cycle(start, parent_of)))
        raise ValueError(f"graph: has a cycle, {cycle}; expected a tree")

    parents = np.array([position[parent_of[name]] if name in parent_of else -1 for name in names])
    lengths = [length_of.get(name, math.nan) for name in names]
    plain = all(isinstance(length, float) for length in lengths)
    return names, parents, np.array(lengths) if plain else lengths


def _cycle(node: Hashable, parent_of: dict[Hashable, Hashable]) -> list[Hashable]:
    """The cycle that is reached by going from parent to parent, first node repeated at the end."""
    path: dict[Hashable, None] = {}
    while node not in path:
        path[node] = None
        node = parent_of[node]
    up = list(path)
    return [node, *reversed(up[up.index(node) :])]


def _edge_length(edge: str, attributes: dict) -> Any:
    """A float, checked, or the scalar array as it is."""
    length = next((attributes[key] for key in LENGTH_ATTRIBUTES if key in attributes), None)
    if length is None:
        raise ValueError(
            f"graph: {edge} has no length; expected an attribute {' or '.join(LENGTH_ATTRIBUTES)}"
        )
    if isinstance(length, int | float | np.integer | np.floating) and not isinstance(length, bool):
        if not math.isfinite(length) or length < 0:
            raise ValueError(f"graph: {edge} has length {length}; expected a finite number >= 0")
        return float(length)
    shape = getattr(length, "shape", None)
    if shape is None:
        raise TypeError(f"graph: {edge} has length {length!r}; expected a number")
    if shape != ():
        raise ValueError(f"graph: {edge} has a length of shape {shape}; expected a scalar")
    return length
