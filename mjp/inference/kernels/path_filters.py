"""Paths of a model by particle filters in which nothing is kept, and the evidence that these estimate."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from mjp.inference.bootstrap_filter import bootstrap_filter
from mjp.inference.condition import condition
from mjp.inference.count_graph import evaluate
from mjp.inference.kernels.particle_gibbs import SweepReport, sites_of_path
from mjp.inference.mixed_particles import particle_sweep
from mjp.inference.resampling import typed
from mjp.numpyro_bridge import INNOVATIONS, flatten, has_jump_path, mixes_families, recording


def filtered_paths(
    model: Callable, key: Array, particles: int, args: tuple, kwargs: dict | None
) -> tuple[dict[str, Array], Array, SweepReport]:
    """Paths of the reaction networks, and of the graphs that mix families, of a model whose other sites are
    given.

    Particles of networks move as these do; those of graphs that mix families are guided.

    Args:
        key: or several, which blocks of networks take in turn; see `bootstrap_filter`.

    Returns:
        sites of paths, first states and innovations; the log of the estimated evidence of all graphs
        together, unbiased but for the logarithm; how the filters went.

    Raises:
        ValueError: a model without such graphs; several keys for a graph that mixes families.
    """
    with recording() as graphs:
        model(*args, **(kwargs or {}))
    keys = typed(key)
    z: dict[str, Array] = {}
    evidence, ess, overflow = jnp.zeros(()), [], jnp.zeros((), jnp.int32)
    for name, (graph, options) in graphs.items():
        own = jax.vmap(partial(jax.random.fold_in, data=len(ess)))(keys.reshape(-1)).reshape(keys.shape)
        if has_jump_path(graph):
            counts = evaluate(graph, None)
            result: Any = bootstrap_filter(counts, own, particles, options["max_events"])
            z.update(sites_of_path(name, counts, result))
            overflow = overflow + jnp.asarray(result.overflow, jnp.int32)
        elif mixes_families(graph):
            guided: Any = condition(graph, **options)
            if guided.exact:  # its path is marginalised
                continue
            if keys.ndim:
                raise ValueError(
                    f"refreshed: the filter of {name!r}, whose graph mixes families, draws all its random "
                    "numbers anew; give 1"
                )
            result = particle_sweep(guided, own, particles)
            z[name + INNOVATIONS] = flatten(result.z, guided.innovations)[0]
        else:
            continue
        evidence = evidence + jnp.sum(result.log_evidence)
        ess.append(jnp.min(result.ess) / particles)
    if not ess:
        raise ValueError(
            "model has no path of a reaction network, nor of a graph that mixes families, for particles to "
            "draw"
        )
    return z, evidence, SweepReport(jnp.min(jnp.stack(ess)), jnp.ones(()), overflow)
