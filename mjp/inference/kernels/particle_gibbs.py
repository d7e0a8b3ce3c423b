"""Particle Gibbs: jump paths given parameters and data, by conditional sequential Monte Carlo."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mjp.inference.condition import condition
from mjp.inference.count_graph import CountGraph
from mjp.inference.guided_smc import particle_sweep
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import ParticleKernel
from mjp.inference.path_law import pack, unpack
from mjp.inference.resampling import Reference, typed
from mjp.numpyro_bridge import PATH, ROOTS, has_jump_path, recording


class ParticleGibbsState(NamedTuple):
    """State of `ParticleGibbs`.

    Attributes:
        z: value of every site of paths, and of their first states where these have a law.
        particle_ess: smallest effective share of the particles, over blocks and series.
        renewed: share of the blocks at which the kept path got another past.
        moved: share of the pieces of paths that the last sweep changed.
        overflow: particles of the last sweep whose events did not fit the buffer.
    """

    i: Array
    z: dict[str, Array]
    particle_ess: Array
    renewed: Array
    moved: Array
    overflow: Array
    rng_key: Array


class ParticleGibbs(ParticleKernel):
    """Updates the paths `….path` of a model, given all other sites, with guided particles.

    Every sweep leaves the law of the path given parameters and data invariant, whatever the number of
    particles and the guide (Andrieu, Doucet & Holenstein 2010; ancestor sampling of Lindsten, Jordan &
    Schön 2014). Use it as a block of `numpyro.infer.Gibbs`, beside NUTS on the parameters.

    Args:
        model: a NumPyro model that contains `mjp.sample` of reaction networks.
        sites: names given to `mjp.sample`; by default all graphs of reaction networks of the model.
        particles: of each series of each graph.
    """

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> ParticleGibbsState:
        """Start at a path drawn by the particle filter."""
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        z, _, _ = self._sweep(key, None, model_args, model_kwargs)
        zero = jnp.zeros((), jnp.result_type(float))
        return ParticleGibbsState(
            jnp.zeros((), jnp.int32), z, zero, zero, zero, jnp.zeros((), jnp.int32), following
        )

    def sample(
        self, state: ParticleGibbsState, model_args: tuple, model_kwargs: dict | None
    ) -> ParticleGibbsState:
        """One sweep of conditional sequential Monte Carlo for every graph."""
        key, following = jax.random.split(state.rng_key)
        z, _, report = self._sweep(key, state.z, model_args, model_kwargs)
        dtype = state.particle_ess.dtype
        return state._replace(
            i=state.i + 1,
            z=z,
            particle_ess=report.particle_ess.astype(dtype),
            renewed=report.renewed.astype(dtype),
            moved=share_moved(state.z, z).astype(dtype),
            overflow=report.overflow,
            rng_key=following,
        )

    def _sweep(
        self, key: Array, old: dict[str, Array] | None, args: tuple, kwargs: dict | None
    ) -> tuple[dict[str, Array], Array, "SweepReport"]:
        return particle_paths(self._model, key, self._particles, old, args, kwargs, True, self._sites)


class SweepReport(NamedTuple):
    """How a sweep went; see `ParticleGibbsState`."""

    particle_ess: Array
    renewed: Array
    overflow: Array


def share_moved(old: dict[str, Array], new: dict[str, Array]) -> Array:
    """Share of the pieces of paths that differ."""
    paths = [name for name in new if name.endswith(PATH)]
    moved = [jnp.mean(jnp.any(new[name] != old[name], axis=(-2, -1))) for name in paths]
    return jnp.mean(jnp.stack(moved))


def particle_paths(
    model: Callable,
    key: Array,
    particles: int,
    old: dict[str, Array] | None,
    args: tuple,
    kwargs: dict | None,
    keep: Any = True,
    sites: Sequence[str] | None = None,
) -> tuple[dict[str, Array], Array, SweepReport]:
    """Paths of the reaction networks of a model whose other sites are given, drawn by guided particles.

    Args:
        old: paths of which one particle of each series is to be kept, if `keep` is true.

    Returns:
        sites of paths and first states; the log of the estimated evidence of all graphs together.

    Raises:
        ValueError: a model without reaction networks.
    """
    with recording() as graphs:
        model(*args, **(kwargs or {}))
    z, found, key = {}, [], typed(key)
    for name, (graph, options) in graphs.items():
        if not has_jump_path(graph) or (sites is not None and name not in sites):
            continue
        conditioned: Any = condition(graph, **options)
        kept = (None, None)
        if old is not None:
            kept = (Reference(*unpack(old[name + PATH])), old.get(name + ROOTS))
        own = jax.random.fold_in(key, len(found))
        result: Any = particle_sweep(conditioned, own, particles, *kept, keep)
        z.update(sites_of_path(name, conditioned.model, result))
        found.append(result)
    if not found:
        raise ValueError("model has no path of a reaction network for particles to draw")
    evidence = sum((jnp.sum(p.log_evidence) for p in found), jnp.zeros(()))
    report = SweepReport(
        jnp.min(jnp.stack([jnp.min(p.ess) / particles for p in found])),
        jnp.mean(jnp.stack([jnp.mean(p.renewed) for p in found])),
        sum((p.overflow for p in found), jnp.zeros((), jnp.int32)).astype(jnp.int32),
    )
    return z, evidence, report


def sites_of_path(name: str, counts: CountGraph, result: Any) -> dict[str, Array]:
    """Values of the sites of a path of counts that particles have left, and of its first states."""
    sites = {name + PATH: pack(result.reference.times, result.reference.reactions)}
    if any(law is not None for law in counts.static.root_laws):
        sites[name + ROOTS] = result.roots
    return sites
