"""Whether particle filters know the evidence of paths well enough for pseudo-marginal moves.

Where observations are noisy and parameters few, moves of both together with a filter mix far better than
those of paths and parameters in turn, and little has to be compiled. Where observations of a reaction network
are sharp, hardly any particle fits them, and paths have to be guided. A pilot run tells.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjp.fitting.anchoring import PreparedModel
from mjp.fitting.chains import HASTY
from mjp.inference.kernels import PseudoMarginal
from mjp.numpyro_bridge import (
    HIDDEN,
    INNOVATIONS,
    PATH,
    has_jump_path,
    latent_sites,
    mixes_families,
    recorded_options,
)

_MOST_PARAMETERS = 8  # that move well at once
_TRIED, _REPEATS = 100, 24  # particles of the pilot's filters, and how many of them
_DEVIATION = 1.3  # of the log-evidence, that the particles of the run are to have
_FEWEST, _FEWEST_GUIDED, _MOST = 50, 200, 2000  # particles; guides may be worse at other parameters
_LEAST_ROOM, _MOST_ROOM, _ROOM_OF_ALL = 64, 4096, 2**20  # events: of an edge, and of all edges of the pilot


class Filtering(NamedTuple):
    """What a pilot run has found: the model with room for its paths, and the particles that it takes."""

    model: Callable
    particles: int


def filters_suffice(model: Callable, args: tuple, kwargs: dict) -> Filtering | None:
    """The particles with which the log-evidence of a model's paths is known to about one unit.

    None where all that is latent besides paths of reaction networks, and of graphs that mix families, is not
    a few continuous parameters, where the user has chosen how paths of networks are guided, or where too many
    particles would be needed. The evidence is looked at where it is largest among some prior draws.
    """
    sites = latent_sites(model, args, kwargs)
    parameters = [name for name in sites if not name.endswith(HIDDEN)]
    size = sum(int(np.size(sites[name]["value"])) for name in parameters)
    if len(parameters) == len(sites) or not 0 < size <= _MOST_PARAMETERS:
        return None
    if any(sites[name]["fn"].support.is_discrete for name in parameters):
        return None
    jumping, mixed = _filtered_graphs(model, args, kwargs)
    drawn = {name + PATH for name in jumping} | {name + INNOVATIONS for name in mixed}
    if not {name for name in sites if name.endswith((PATH, INNOVATIONS))} <= drawn:
        return None  # agents, guided graphs of one family, or innovations of networks
    if any(options - {"max_events"} for options in jumping.values()):
        return None
    tried, roomy = model, 0
    if jumping:
        pieces = max(sites[name + PATH]["value"].shape[0] for name in jumping)
        roomy = int(np.clip(_ROOM_OF_ALL // pieces, _LEAST_ROOM, _MOST_ROOM))
        tried = PreparedModel(model, {name: {"max_events": roomy} for name in jumping})
    kernel = PseudoMarginal(tried, particles=_TRIED)

    def pilot(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        start_key, key = jax.random.split(key)
        state = kernel.init(start_key, 0, None, args, kwargs)
        found, evidence, report = kernel.estimates(state, key, _REPEATS, args, kwargs)
        events = {name: _most_events(found[name + PATH]) for name in jumping}
        return evidence, events, jnp.sum(report.overflow)

    program: Any = jax.jit(pilot).lower(jax.random.key(0)).compile(compiler_options=HASTY)
    evidence, events, overflow = jax.tree.map(np.asarray, program(jax.random.key(0)))
    if overflow > 0 or not np.all(np.isfinite(evidence)):
        return None
    needed = _TRIED * (float(np.std(evidence, ddof=1)) / _DEVIATION) ** 2
    if needed > _MOST:
        return None
    particles = max(_FEWEST_GUIDED if mixed else _FEWEST, 10 * int(np.ceil(needed / 10)))
    room = {name: {"max_events": _room(int(most), roomy)} for name, most in events.items()}
    return Filtering(PreparedModel(model, room), particles)


def _filtered_graphs(model: Callable, args: tuple, kwargs: dict) -> tuple[dict[str, set[str]], list[str]]:
    """Graphs of the reaction networks of a model, with names of the options given, and those that mix."""
    jumping: dict[str, set[str]] = {}
    mixed: list[str] = []

    def declare() -> None:
        for name, (graph, options) in recorded_options(model, args, kwargs, {}).items():
            if has_jump_path(graph):
                jumping[name] = set(options)
            elif mixes_families(graph):
                mixed.append(name)

    jax.eval_shape(declare)
    return jumping, mixed


def _most_events(packed: jax.Array) -> jax.Array:
    """Most events on an edge, of paths that are packed as the sites of paths are."""
    return jnp.max(jnp.sum(packed[..., 1] >= 0, axis=-1))


def _room(most: int, limit: int) -> int:
    """A buffer of events on an edge, twice as long as what was met."""
    return min(_LEAST_ROOM * -(-2 * most // _LEAST_ROOM) + _LEAST_ROOM, limit)
