"""Rules of conditional probability tables."""

import jax.numpy as jnp
import numpy as np

from mjp.graph import Edges
from mjp.inference.rules.finite_states import SNAPSHOT, Kernels
from mjp.inference.rules.registry import register
from mjp.processes import ConditionalTable


@register(ConditionalTable)
class ConditionalTableRule:
    """An edge is one step with the table's law; `Kernels.matrices` has an axis for each parent."""

    engine = "several parents"

    def kernels(self, process: ConditionalTable, edges: Edges, arrival: np.ndarray) -> Kernels:
        if np.any(arrival != SNAPSHOT):
            raise ValueError("entry, transitions: exact times have no meaning for ConditionalTable")
        return Kernels(jnp.asarray(process.table)[None], np.zeros(len(edges.children), dtype=np.int64))

    def pieces(self, process: ConditionalTable) -> tuple[float, ...]:
        return ()
