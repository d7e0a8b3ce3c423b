"""Draws of switching diffusions: a path of vector states, and the regime of every step."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from mjp.trajectory import Names
from mjp.vector_trajectory import VectorPaths, VectorTrajectory


class SwitchingTrajectory(VectorTrajectory):
    """A draw of a chain of a switching diffusion.

    Attributes:
        values: (..., n_nodes, d) coordinates at every node.
        regimes: (..., n_series, n_steps) position of the regime of every step, over all edges of a chain;
            None for a guided path whose regimes have not been drawn (`Guided.complete` draws them).
    """

    values: Array
    observations: tuple
    paths: VectorPaths
    names: Names
    regimes: Array | None

    def regimes_at(self, times: Any) -> Array:
        """Positions of the regimes at times (m,) of the chain: (..., m), or (..., n_series, m).

        A step's regime holds from its start until the next step; at the last node that of the last step.

        Raises:
            ValueError: regimes have not been drawn.
        """
        if self.regimes is None:
            raise ValueError(
                "the regimes of this path have not been drawn; use the guided graph's complete()"
            )
        starts = self.paths.times[0]
        one_series = starts.reshape(*starts.shape[:-2], self.regimes.shape[-2], -1)[..., 0, :]
        one_series = one_series.reshape(-1, one_series.shape[-1])[0]  # the same for all draws
        step = jnp.searchsorted(one_series, jnp.asarray(times, one_series.dtype), side="right") - 1
        found = self.regimes[..., jnp.clip(step, 0, self.regimes.shape[-1] - 1)]
        return found if self.names.graph.n_series else found[..., 0, :]

    @property
    def regimes_at_nodes(self) -> Array:
        """(..., n_nodes) position of the regime of the step that leads to each node; of the first step for
        the first node.

        Raises:
            ValueError: regimes have not been drawn.
        """
        if self.regimes is None:
            raise ValueError(
                "the regimes of this path have not been drawn; use the guided graph's complete()"
            )
        per_edge = self.paths.times[0].shape[-1]
        last = self.regimes[..., per_edge - 1 :: per_edge]
        nodes = jnp.concatenate([self.regimes[..., :1], last], axis=-1)
        return nodes.reshape(*nodes.shape[:-2], -1)
