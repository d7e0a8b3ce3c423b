"""Regimes on a tree: which named clade an edge belongs to."""

from collections.abc import Hashable, Mapping, Sequence

import networkx as nx

from mjp.newick import parse_newick


def regimes(
    tree: str | nx.DiGraph, clades: Mapping[str, Sequence[Hashable]], *, stem: bool = True
) -> dict[Hashable, int]:
    """The regime of every edge, by the label of its child, to be a covariate of `mjp.tree`.

    A clade is the most recent common ancestor of some nodes with all that descends from it. Where clades are
    nested, an edge belongs to the smallest.

    Args:
        tree: text in Newick format, or a tree as `mjp.tree` takes it.
        clades: names, and two or more labels that tell each clade; or one label, of its ancestor.
        stem: whether the edge that leads to the ancestor belongs to the clade.

    Returns:
        0 for edges in no clade, i for those in the i-th.

    Raises:
        ValueError: a label that is not a node, nodes of different trees of a forest, or two clades that are
            the same.
        TypeError: clades that are not a mapping of lists of labels.

    Example:
        >>> painted = mjp.regimes(newick, {"giants": ["equestris", "noblei"]})
        >>> optimum = lambda c: pull * optima[c["regime"]]
        >>> process = mjp.LinearDiffusion(-pull, optimum, sigma)
        >>> mjp.tree(newick, process, initial=law, covariates={"regime": painted})
    """
    graph = parse_newick(tree) if isinstance(tree, str) else tree
    if not isinstance(graph, nx.DiGraph):
        raise TypeError(f"tree must be text or a networkx.DiGraph, got {type(tree).__name__}")
    if not isinstance(clades, Mapping) or any(
        isinstance(labels, str) or not isinstance(labels, Sequence) for labels in clades.values()
    ):
        raise TypeError("clades must map each name to a list of labels of nodes")
    below: dict[int, set[Hashable]] = {}
    for number, (name, labels) in enumerate(clades.items(), start=1):
        ancestor = _common_ancestor(graph, name, labels)
        below[number] = nx.descendants(graph, ancestor) | ({ancestor} if stem else set())
    numbers = list(below)
    for i, j in ((i, j) for i in numbers for j in numbers if i < j):
        if below[i] == below[j]:
            names = list(clades)
            raise ValueError(f"clades: {names[i - 1]!r} and {names[j - 1]!r} have the same ancestor")
    found = dict.fromkeys(graph.nodes, 0)
    for number in sorted(below, key=lambda number: -len(below[number])):
        found.update(dict.fromkeys(below[number], number))
    return found


def _common_ancestor(graph: nx.DiGraph, name: str, labels: Sequence[Hashable]) -> Hashable:
    if not labels:
        raise ValueError(f"clades: {name!r} has no labels")
    for label in labels:
        if label not in graph:
            raise ValueError(f"clades: {label!r} of {name!r} is not a node of the tree")
    shared = set.intersection(*({label} | nx.ancestors(graph, label) for label in labels))
    if not shared:
        raise ValueError(f"clades: the nodes of {name!r} are on different trees")
    return max(shared, key=lambda node: len(nx.ancestors(graph, node)))
