"""The states of every node, in graphs whose nodes need not have the same."""

from typing import Any

from mjp.graph import Graph


def state_spaces(graph: Graph) -> list[tuple]:
    """Labels of the states of each node, in the order of `graph.names`.

    A child has the states of its process; a root has those that the processes which leave it ask for, or
    0 … K-1 where they ask for their number only.

    Raises:
        ValueError: processes that ask for different states of the same node, or for other states than its
            own process has; a root without edges.
    """
    if (alike := _alike(graph)) is not None:
        return [alike] * graph.n_nodes
    spaces: list[tuple | None] = [None] * graph.n_nodes
    for edges in graph.edges:
        process: Any = edges.process
        for child in edges.children.tolist():
            spaces[child] = process.states
    roots = {int(node) for batch in graph.roots for node in batch.nodes}
    for named in (True, False):  # labels count for more than numbers
        for edges in graph.edges:
            process: Any = edges.process
            for axis, (size, labels) in enumerate(process.parent_states):
                if (labels is not None) is not named:
                    continue
                for parent in edges.every_parent[:, axis].tolist():
                    if parent in roots and spaces[parent] is None:
                        spaces[parent] = tuple(range(size)) if labels is None else labels
                    _check(graph, parent, spaces[parent], process, axis)
    for node, space in enumerate(spaces):
        if space is None:
            raise ValueError(f"{graph.describe_node(node)} has no edges, so that its states are unknown")
    return [space for space in spaces if space is not None]


def shared_states(graph: Graph) -> tuple:
    """Labels of the states of all nodes if these are the same, else the positions of the most there are."""
    if (alike := _alike(graph)) is not None:
        return alike
    spaces = set(state_spaces(graph))
    return spaces.pop() if len(spaces) == 1 else tuple(range(max(map(len, spaces))))


def _alike(graph: Graph) -> tuple | None:
    """The states of all nodes, where every process goes from and to the same ones."""
    processes: list[Any] = [edges.process for edges in graph.edges]
    states = processes[0].states
    wanted = ((len(states), states),)
    alike = all(process.states == states and process.parent_states == wanted for process in processes)
    return states if alike else None


def _check(graph: Graph, node: int, space: tuple | None, process: Any, axis: int) -> None:
    size, labels = process.parent_states[axis]
    if space is None or (len(space) == size if labels is None else space == labels):
        return
    wanted = f"{size} states" if labels is None else f"the states {list(labels)}"
    raise ValueError(
        f"parent: {graph.describe_node(node)} has the states {list(space)}, where {type(process).__name__} "
        f"needs {wanted}"
    )
