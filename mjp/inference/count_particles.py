"""Particle filters of graphs of reaction networks, guided and not."""

from typing import Any

import numpy as np
from jax import Array

from mjp._checks import check_count
from mjp.graph import Graph
from mjp.inference.blocks import blocks_of
from mjp.inference.bootstrap_filter import EVENT_LIMIT, Filtered, bootstrap_filter
from mjp.inference.condition import condition
from mjp.inference.count_graph import CountGraph, evaluate
from mjp.inference.evidence import report_faults
from mjp.inference.guided_smc import Particles, run
from mjp.inference.look_ahead import look_ahead
from mjp.inference.resampling import by_component

_TRUST = 0.75  # of a guide that only weighs


def count_particles(
    graph: Graph, key: Array, particles: int, *, guided: bool | str, **options: Any
) -> Particles | Filtered:
    """The filter that `mjp.smc` is asked for; what it left is checked."""
    if guided not in (True, False, "resampling"):
        raise ValueError(f"guided must be True, False or 'resampling', got {guided!r}")
    result: Particles | Filtered
    if guided in (False, "resampling"):
        room, event_limit = "event_limit", options.pop("event_limit", EVENT_LIMIT)
        check_count(room, event_limit)
        ahead = None
        if guided:
            trust = options.pop("trust", _TRUST)
            if not 0 <= trust <= 1:
                raise ValueError(f"trust must be from 0 to 1, got {trust!r}")
            # no path is drawn, so that a buffer of any size will do
            conditioned: Any = condition(graph, **options, max_events=1)
            model = conditioned.model
            ahead = look_ahead(model, conditioned.guide, float(trust))
        else:
            if options:
                raise TypeError(
                    f"smc: a bootstrap filter has no option but event_limit, got {', '.join(sorted(options))}"
                )
            model = evaluate(graph, None)
        result = bootstrap_filter(model, key, particles, 0, event_limit, ahead)
    else:
        conditioned = condition(graph, **options)
        model, room = conditioned.model, "max_events"
        result = run(conditioned, key, particles)
    report_faults(int(result.overflow), int(result.invalid), particles, room)
    dead = np.flatnonzero(~np.isfinite(np.asarray(result.log_evidence)))
    if len(dead):
        where = _where_died(graph, model, np.asarray(result.ess), int(dead[0]))
        raise RuntimeError(
            f"none of {particles} particles is alive {where}: the observation there cannot be reached, or "
            "the guide does not lead to it"
        )
    return result._replace(log_evidence=by_component(model, result.log_evidence))


def _where_died(graph: Graph, model: CountGraph, ess: np.ndarray, tree: int) -> str:
    """The edge on which the last particle of a tree died, in words."""
    blocks = blocks_of(model.static).pieces[:, tree]
    series = int(model.static.component[model.static.root_nodes[tree]])
    of_series = f" of series {series}" if model.static.n_components > 1 else ""
    died = np.flatnonzero(ess[:, tree] == 0)
    after = int(died[0]) - 1 if len(died) else int(np.flatnonzero(blocks < model.n_pieces)[-1])
    if after < 0:
        return f"at the first time{of_series}"
    above, pieces = model.static.layout_parent, model.pieces
    node, parent = int(pieces.children[blocks[after]]), int(pieces.parents[blocks[after]])
    while parent >= graph.n_nodes:
        parent = int(above[parent])
    while node >= graph.n_nodes:
        node = int(pieces.children[np.flatnonzero(pieces.parents == node)[0]])
    edge = sum(1 for block in blocks[:after] if pieces.children[block] < graph.n_nodes)
    number = f" {edge}" if graph.kind == "chain" else ""
    return f"after edge{number}{of_series}, from {graph.describe_node(parent)} to {graph.describe_node(node)}"
