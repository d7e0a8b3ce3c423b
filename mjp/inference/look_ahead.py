"""What a guide expects of particles at the start of edges, by which they are weighted before resampling."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp.inference.count_graph import CountGraph
from mjp.inference.jump_guides import JumpGuide
from mjp.inference.resampling import with_dummy
from mjp.processes.reaction_network import ReactionNetwork


class LookAhead(eqx.Module):
    """log g at the start of pieces of edges; zero for the dummy.

    Attributes:
        own: of the first cell, and constants: of the propensities, by piece, the dummy last.
        trust: power to which g is raised.
    """

    process: ReactionNetwork
    guide: JumpGuide
    own: Any
    constants: Any
    trust: float = eqx.field(static=True)

    def __call__(self, chosen: Array, x: Array) -> Array:
        """Log-values (w, n) of states (w, n, d) at the start of a piece of each tree, (w,)."""

        def one(own: Any, constants: tuple, x: Array) -> Array:
            rates = jnp.stack(self.process.propensities_from(constants, list(x)))
            value = self.guide.log_value(self.process, own, x.astype(jnp.result_type(float)), rates)
            return jnp.where(jnp.isnan(value), 0.0, self.trust * value)

        of_piece = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], tree)
        value = jax.vmap(jax.vmap(one, in_axes=(None, None, 0)))(
            of_piece(self.own), of_piece(self.constants), x
        )
        exists = chosen < len(jax.tree.leaves(self.constants)[0]) - 1
        return jnp.where(exists[:, None], value, 0.0)

    def of_all(self, opened: Array, x: Array) -> Array:
        """Sums (w, n) over the pieces that begin in states (w, n, d) of each tree, (w, C)."""
        zero = jnp.zeros(x.shape[:2], jnp.result_type(float))
        return sum((self(chosen, x) for chosen in opened.T), zero)


def look_ahead(model: CountGraph, guide: JumpGuide, trust: float = 1.0, kind: int = 0) -> LookAhead:
    """The look-ahead of a guide on pieces of one of the networks of a graph."""
    own, constants = with_dummy((guide.cells, model.constants[kind]))
    first = jax.tree.map(lambda leaf: leaf[:, 0], own)
    return LookAhead(model.processes[kind], guide, first, constants, trust)
