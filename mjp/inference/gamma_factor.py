r"""Edges of Gamma processes in graphs that mix families.

The potential of the child is Gaussian. The guide takes the increment for a normal variable with its mean and
variance; draws are those of the Gamma law itself, tilted towards the potential, with exact weights.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp.graph import Edges, Graph
from mjp.inference.gamma_bridge import gamma_bridge
from mjp.inference.gamma_draws import free_increment
from mjp.inference.gamma_graph import GammaKind, gamma_kind
from mjp.inference.joint_factors import Rows, Space, VectorLaw, WithChild
from mjp.inference.potentials.canonical import Canonical

_LEVEL = Space(False, 1)


class GammaFactor(WithChild):
    """Edges of a `mjp.GammaProcess`; `inputs` are shapes and rates (E,) of the increments on them."""

    kind: GammaKind
    inputs: tuple[Array, Array]
    where: Rows = eqx.field(static=True)
    spaces: tuple[Space, ...] = eqx.field(static=True, default=(_LEVEL,))
    child: Space = eqx.field(static=True, default=_LEVEL)

    def expand(self, own: Any, anchor: Array, positions: Array, ahead: Canonical) -> Canonical:
        mean, factor = _normal(own)
        return ahead.pull_back(ahead.gain(factor), jnp.eye(1, dtype=anchor.dtype), mean)

    def drawn(self, own: Any, states: Sequence[Any], ahead: Canonical, noise: Array) -> tuple[Array, Array]:
        shape, rate = own
        towards = (ahead.linear[0], ahead.precision[0, 0])
        increment, log_ratio = free_increment(states[0][0], shape, rate, *towards, noise[0])
        after = states[0] + increment
        return after, ahead.log_value(after) + log_ratio

    def law(self, own: Any, laws: Sequence[Any]) -> VectorLaw:
        mean, factor = _normal(own)
        return VectorLaw(laws[0].mean + mean, jnp.sqrt(laws[0].factor ** 2 + factor**2))

    def before(self, states: Array, z: Array | None) -> Array:
        """States (E, n, 1) at the starts of the steps, given those at the nodes (1, nodes)."""
        start, end = states[0, self.where.parents[:, 0]], states[0, self.where.children]
        if z is None:
            return start[:, None, None]
        kind = self.kind
        increments, _ = jax.vmap(gamma_bridge)(kind.shapes, kind.rates, end - start, z)
        inner = start[:, None] + jnp.cumsum(increments[:, :-1], axis=1)
        return jnp.concatenate([start[:, None], inner], axis=1)[..., None]


def gamma_factor(graph: Graph, edges: Edges) -> GammaFactor:
    """Edges that carry the same process.

    Raises:
        ValueError: shapes or rates that are not positive; rates that change within an edge.
    """
    kind = gamma_kind(graph, edges)
    if not kind.constant_rate:
        raise ValueError(
            "process: in a graph that mixes families the rate of a GammaProcess is a number, or edges have "
            "one step"
        )
    where = Rows(edges.parents[:, None], edges.children)
    increments = (jnp.sum(kind.shapes, axis=1), kind.rates[:, 0])
    return GammaFactor(kind=kind, inputs=increments, where=where)


def _normal(own: tuple[Array, Array]) -> tuple[Array, Array]:
    """Mean (1,) of an increment, and its standard deviation (1, 1)."""
    shape, rate = own
    return (shape / rate)[None], (jnp.sqrt(shape) / rate)[None, None]
