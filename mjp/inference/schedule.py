"""Graph to compiled sweeps: the order in which nodes are visited, as static index arrays."""

from dataclasses import dataclass

import equinox as eqx
import numpy as np

from mjp._by_content import ByContent
from mjp.graph import Graph

_ROW_OVERHEAD = 48  # one scan step costs about as much as this many rows of work


@dataclass(frozen=True, eq=False)
class Paths(ByContent):
    """Independent paths of at most L edges, side by side; one scan sweeps them all.

    Nodes with a known state cut the graph: a path starts at a root or at a known node and ends at a
    known node or at a leaf.
    """

    nodes: np.ndarray  # (L + 1, S) node at each position; the dummy n_nodes beyond the end
    component: np.ndarray  # (S,) entry of the evidence

    @property
    def n_edges(self) -> int:
        return self.nodes.shape[0] - 1


class Levels(eqx.Module):
    """A forest in chunks of W inner nodes of equal height; one scan over C chunks sweeps it.

    Nodes are stored as rows, leaves first, then chunk after chunk, so that a chunk is written as one
    block. Every row gathers from at most two children; wider nodes are split by dummies whose edge is
    the identity. Row R is a dummy that holds the unit potential.
    """

    node: np.ndarray  # (R + 1,) node of each row, the dummy n_nodes for padding and splitting rows
    leaves: int = eqx.field(static=True)  # number of leaf rows
    children: np.ndarray  # (C, W, 2) rows
    edges: np.ndarray  # (C, W, 2) child node whose edge is crossed; the dummy n_nodes for the identity
    parent: np.ndarray  # (R + 1,) parent row; the dummy R for roots and padding
    edge: np.ndarray  # (R + 1,) child node whose edge leads to the row; the dummy for the identity
    roots: np.ndarray  # (n_roots,) rows
    row_of_node: np.ndarray  # (n_nodes,)


def component_of_nodes(graph: Graph, parent: np.ndarray) -> np.ndarray:
    """Entry of the evidence that each node, inserted ones included, belongs to; `parent` is -1 at roots.

    Raises:
        ValueError: a node that has no parent and is not a root; a cycle.
    """
    roots = np.concatenate([roots.nodes for roots in graph.roots])
    orphans = np.setdiff1d(np.flatnonzero(parent < 0), roots)
    if len(orphans):
        raise ValueError(f"{graph.describe_node(int(orphans[0]))} has no parent and is not a root")
    of_root = np.zeros(len(parent), dtype=np.int64)
    of_root[roots] = graph.component_of_root()
    return of_root[topological_depth(parent)[1]]


def topological_depth(parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Depth and root of every node by pointer doubling; `parent` is -1 at roots.

    Raises:
        ValueError: the parent pointers contain a cycle.
    """
    ids = np.arange(len(parent))
    pointer = np.where(parent < 0, ids, parent)
    depth = (parent >= 0).astype(np.int64)
    for _ in range(max(len(parent), 1).bit_length() + 1):
        following = pointer[pointer]
        if np.array_equal(following, pointer):
            return depth, pointer
        depth = depth + np.where(following != pointer, depth[pointer], 0)
        pointer = following
    raise ValueError("graph: the edges form a cycle")


def schedule_paths(
    parent: np.ndarray, known: np.ndarray, component: np.ndarray
) -> tuple[list[Paths], np.ndarray] | None:
    """Cut the graph at known nodes into paths, or return None if a piece branches.

    Args:
        parent: (n,) parent of each node, -1 for roots.
        known: (n,) bool, whether the node's state is known.
        component: (n,) entry of the evidence of each node.

    Returns:
        the paths, in groups of similar length; and the pinned nodes: children whose own state and
        whose parent's state are both known, so that their edge is a single number.
    """
    n = len(parent)
    has_parent = parent >= 0
    start_known = has_parent & known[np.maximum(parent, 0)]
    pinned = np.flatnonzero(start_known & known)
    in_path = np.ones(n, dtype=bool)
    in_path[pinned] = False
    in_path[~has_parent & known] = False
    free_parent = np.where(has_parent & ~start_known, parent, -1)
    counted = np.bincount(free_parent[(free_parent >= 0) & in_path], minlength=n)
    if np.any(counted > 1):
        return None
    depth, head = topological_depth(free_parent)
    position = depth + start_known[head]  # a known parent takes position zero
    members = np.flatnonzero(in_path)
    heads, path = np.unique(head[members], return_inverse=True)
    length = np.zeros(len(heads), dtype=np.int64)
    np.maximum.at(length, path, position[members])
    groups: list[Paths] = []
    for chosen in _similar_lengths(length):
        nodes = np.full((int(length[chosen].max(initial=0)) + 1, len(chosen)), n, dtype=np.int32)
        column = np.full(len(heads), -1)
        column[chosen] = np.arange(len(chosen))
        mine = column[path] >= 0
        nodes[position[members[mine]], column[path[mine]]] = members[mine]
        from_known = np.flatnonzero(start_known[heads[chosen]])
        nodes[0, from_known] = parent[heads[chosen][from_known]]
        groups.append(Paths(nodes, component[heads[chosen]].astype(np.int32)))
    return groups, pinned


def _similar_lengths(length: np.ndarray) -> list[np.ndarray]:
    """Groups of paths, so that padding to the longest of a group wastes little."""
    if len(length) == 0:
        return []
    if (length.max() + 1) * len(length) <= 8 * (length.sum() + len(length)) + 4096:
        return [np.arange(len(length))]
    group = np.ceil(np.log(length + 1) / np.log(4.0)).astype(int)
    return [np.flatnonzero(group == g) for g in np.unique(group)]


def schedule_levels(parent: np.ndarray) -> Levels:
    """Levels of a forest given by parent pointers, -1 at roots."""
    n = len(parent)
    parent = parent.astype(np.int64)
    split, edge = _split_wide(parent)
    total = len(split)
    depth, _ = topological_depth(split)
    height = np.zeros(total, dtype=np.int64)
    for d in range(int(depth.max(initial=0)), 0, -1) if depth.max(initial=0) < 64 else ():
        rows = np.flatnonzero(depth == d)
        np.maximum.at(height, split[rows], height[rows] + 1)
    if depth.max(initial=0) >= 64:
        order = np.argsort(-depth, kind="stable")
        for node in order[depth[order] > 0].tolist():
            up = split[node]
            if height[node] >= height[up]:
                height[up] = height[node] + 1
    counts = np.bincount(height)[1:]
    width = _chunk_width(counts)
    leaves = np.flatnonzero(height == 0)
    rows = [leaves]
    for level in range(1, len(counts) + 1):
        nodes = np.flatnonzero(height == level)
        padded = np.full(-(-len(nodes) // width) * width, total)
        padded[: len(nodes)] = nodes
        rows.append(padded)
    tree_node = np.concatenate([*rows, [total]])
    n_rows = len(tree_node) - 1
    row = np.full(total + 1, n_rows, dtype=np.int64)
    real = tree_node < total
    row[tree_node[real]] = np.flatnonzero(real)
    row[total] = n_rows
    children = np.full((total + 1, 2), total, dtype=np.int64)
    child = np.flatnonzero(split >= 0)
    child = child[np.argsort(split[child], kind="stable")]
    first = np.append(True, split[child][1:] != split[child][:-1]) if len(child) else np.zeros(0, bool)
    children[split[child], np.where(first, 0, 1)] = child
    edge = np.append(edge, n)
    n_chunks = (n_rows - len(leaves)) // width if width else 0
    inner = tree_node[len(leaves) : -1].reshape(n_chunks, width)
    up = np.append(split, -1)[tree_node]
    return Levels(
        node=np.where(tree_node < n, tree_node, n).astype(np.int32),
        leaves=len(leaves),
        children=row[children[inner]].astype(np.int32),
        edges=edge[children[inner]].astype(np.int32),
        parent=np.where(up >= 0, row[up], n_rows).astype(np.int32),
        edge=np.where(up >= 0, edge[tree_node], n).astype(np.int32),
        roots=row[np.flatnonzero(parent < 0)].astype(np.int32),
        row_of_node=row[:n].astype(np.int32),
    )


def _split_wide(parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Parent pointers of a forest with at most two children per node, and the edge above each node.

    Children beyond two are paired under dummy nodes, level by level, so that a star of m children gets
    depth log2(m).
    """
    n = len(parent)
    edge = np.arange(n)
    extra_parent: list[np.ndarray] = []
    current_parent = parent.copy()
    active = np.flatnonzero(parent >= 0)
    total = n
    while True:
        owner = current_parent[active]
        counts = np.bincount(owner, minlength=1)
        wide = active[counts[owner] > 2]
        if len(wide) == 0:
            break
        wide = wide[np.argsort(current_parent[wide], kind="stable")]
        owner = current_parent[wide]
        start = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
        rank = np.arange(len(wide)) - np.repeat(start, np.diff(np.append(start, len(wide))))
        pair = np.stack([owner, rank // 2])
        _, dummy = np.unique(pair, axis=1, return_inverse=True)
        dummy = dummy.reshape(-1)
        n_dummy = int(dummy.max()) + 1
        new_owner = np.zeros(n_dummy, dtype=np.int64)
        new_owner[dummy] = owner
        current_parent[wide] = total + dummy
        current_parent = np.concatenate([current_parent, new_owner])
        extra_parent.append(new_owner)
        active = total + np.arange(n_dummy)
        total += n_dummy
    edge = np.concatenate([edge, np.full(total - n, n)])
    return current_parent, edge


def _chunk_width(counts: np.ndarray) -> int:
    """Chunk width that minimises the work over all levels, padding included."""
    if len(counts) == 0:
        return 1
    widths = 2 ** np.arange(int(counts.max()).bit_length())
    cost = [np.sum(-(-counts // w)) * (w + _ROW_OVERHEAD) for w in widths]
    return int(widths[int(np.argmin(cost))])
