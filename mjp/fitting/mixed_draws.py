"""Paths of graphs that mix families, computed from posterior draws."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjp.fitting.draws import choose_draws
from mjp.numpyro_bridge import conditioned_graphs


@dataclass(frozen=True)
class MixedPathDraws:
    """Posterior paths of one graph for some posterior draws.

    Attributes:
        chain, draw: (n,) which posterior draws.
        nodes: (n, n_nodes, width) positions of states, or coordinates, then NaN.
    """

    chain: np.ndarray
    draw: np.ndarray
    nodes: np.ndarray


def draw_mixed_paths(
    model: Callable, args: tuple, kwargs: dict, samples: dict[str, np.ndarray], name: str, number: int
) -> MixedPathDraws:
    """The path of the graph `name`, which follows from its innovations, for `number` posterior draws."""
    chain, draw = choose_draws(samples, number)
    parameters = {site: jnp.asarray(values[chain, draw]) for site, values in samples.items()}
    key = jax.random.key(0)  # nothing of a path is left to chance
    values = lambda p: conditioned_graphs(model, args, kwargs, p, key)[name].trajectory.values
    nodes = jax.jit(lambda p: lax.map(values, p))(parameters)
    return MixedPathDraws(chain, draw, np.asarray(nodes))
