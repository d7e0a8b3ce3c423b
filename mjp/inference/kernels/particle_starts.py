"""What kernels on parameters and particles share: where a chain starts, and what the particles leave out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from numpyro.infer.gibbs import latent_sample_sites, prototype_trace, with_conditioning
from numpyro.infer.util import potential_energy, unconstrain_fn

from mjp.numpyro_bridge import without_paths


def best_start(
    model: Callable, draw_paths: Callable, key: Array, args: tuple, kwargs: dict | None, starts: int
) -> tuple[dict[str, Array], dict[str, Array], Array, Any]:
    """The prior draw whose estimated evidence is largest.

    Args:
        model: as `conditioned` returns it.
        draw_paths: of a key and of keyword arguments that hold the parameters, to paths, evidence, and
            whatever else is of interest.
        starts: number of prior draws.

    Returns:
        its free parameters; its paths; the logarithm of the evidence; what else `draw_paths` returned.
    """

    def start(key: Array) -> tuple[dict[str, Array], dict[str, Array], Array, Any]:
        draw_key, path_key = jax.random.split(key)
        found = prototype_trace(model, draw_key, args, kwargs)
        values = {name: found[name]["value"] for name in latent_sample_sites(found)}
        paths, evidence, report = draw_paths(path_key, with_conditioning(kwargs, values))
        parameters = {name: value for name, value in values.items() if name not in paths}
        return parameters, paths, evidence, report

    found = lax.map(start, jax.random.split(key, starts))
    best = jnp.argmax(jnp.where(jnp.isnan(found[2]), -jnp.inf, found[2]))
    parameters, paths, evidence, report = jax.tree.map(lambda leaf: leaf[best], found)
    free = unconstrain_fn(model, args, with_conditioning(kwargs, paths), parameters)
    return {name: value for name, value in free.items() if name in parameters}, paths, evidence, report


def prior_energy(
    model: Callable, free: dict[str, Array], paths: dict[str, Array], args: tuple, kwargs: dict | None
) -> Array:
    """Minus the log-density of the unconstrained parameters, and of all data but those of the paths."""
    given = with_conditioning(kwargs, paths)
    energy: Any = potential_energy(without_paths(model, paths), args, given, free)
    return energy


def parted(values: dict[str, Array], ends: tuple[str, ...]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Parameters, and paths, the names of which have certain ends."""
    paths = {name: value for name, value in values.items() if name.endswith(ends)}
    return {name: value for name, value in values.items() if name not in paths}, paths
