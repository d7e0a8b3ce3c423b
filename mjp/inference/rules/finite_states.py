"""What the engine for finite states asks of the rule of a process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Edges
from mjp.processes.finite_states import FiniteStateProcess

# how an edge reaches its child; NO_JUMP is a piece of an edge that ends at an exact transition time
SNAPSHOT, ENTRY, EXACT_TRANSITION, NO_JUMP = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Jumps:
    """What is needed to draw the jump path of each edge, besides the states at its ends."""

    generators: Array  # (G, K, K)
    which: np.ndarray  # (n,) generator of each edge
    durations: Any  # (n,)
    starts: Any  # (n,)
    arrival: np.ndarray  # (n,) SNAPSHOT, ENTRY, EXACT_TRANSITION or NO_JUMP
    matrices: Array  # (U, K, K) law of the state at the end of an edge given that at its start
    pair: np.ndarray  # (n,) matrix of each edge; of no meaning for EXACT_TRANSITION and NO_JUMP


@dataclass(frozen=True, eq=False)
class Kernels:
    """Transition matrices of a batch of edges."""

    matrices: Array  # (U, K, K)
    index: np.ndarray  # (n,) matrix of each edge
    jumps: Jumps | None = None  # None in discrete time


class FiniteStateRule(Protocol):
    """Rules of a finite-state process; pullback and guide follow from its transition matrices."""

    engine: str

    def kernels(self, process: Any, edges: Edges, arrival: np.ndarray) -> Kernels:
        """Matrices M with (kappa g)(x) = sum_y M[x, y] g(y) for every edge of a batch.

        Args:
            arrival: (n,) how each edge's child is observed; a rule that cannot honour a code raises.
        """
        ...

    def pieces(self, process: Any) -> tuple[float, ...]:
        """Times at which the process changes; edges that cross one are split there."""
        ...


def distinct_covariates(
    process: FiniteStateProcess, edges: Edges, names: tuple[str, ...]
) -> tuple[dict[str, Array], np.ndarray]:
    """Distinct rows of the covariates that a process reads, and the row of every edge.

    Raises:
        ValueError: the edges do not carry a covariate that the process reads.
    """
    n = len(edges.children)
    for name in names:
        if name not in edges.covariates:
            raise ValueError(
                f"{type(process).__name__} reads the covariate {name!r}, which its edges do not carry; "
                f"they carry {sorted(edges.covariates)}"
            )
    columns: Mapping[str, Any] = {name: edges.covariates[name] for name in names}
    if not all(is_concrete(column) for column in columns.values()):
        return {name: jnp.asarray(column) for name, column in columns.items()}, np.arange(n)
    if not names:
        return {}, np.zeros(n, dtype=np.int32)
    key = np.rec.fromarrays([np.asarray(column) for column in columns.values()])
    distinct, row = np.unique(key, return_inverse=True)
    chosen = {name: jnp.asarray(distinct[f"f{i}"]) for i, name in enumerate(names)}
    return chosen, row.reshape(-1).astype(np.int32)


def over_covariates(function: Any, rows: dict[str, Array]) -> Array:
    """Evaluate a function of one set of covariates on every row, stacked in front."""
    return jax.vmap(function)(rows) if rows else function({})[None]
