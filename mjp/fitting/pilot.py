"""Whether a bootstrap filter knows the evidence of jump paths well enough for pseudo-marginal moves.

Where observations are noisy and parameters few, moves of both together with a cheap filter mix far better
than those of paths and parameters in turn, and little has to be compiled. Where the observations are sharp,
hardly any particle fits them, and paths have to be guided. A pilot run tells.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjp.fitting.anchoring import PreparedModel
from mjp.fitting.chains import HASTY
from mjp.inference.kernels import PseudoMarginal
from mjp.numpyro_bridge import HIDDEN, PATH, ROOTS, has_jump_path, latent_sites, recorded_options

_MOST_PARAMETERS = 8  # that move well at once
_TRIED, _REPEATS = 100, 24  # particles of the pilot's filters, and how many of them
_DEVIATION = 1.3  # of the log-evidence, that the particles of the run are to have
_FEWEST, _MOST = 50, 2000  # particles
_LEAST_ROOM, _MOST_ROOM, _ROOM_OF_ALL = 64, 4096, 2**20  # events: of an edge, and of all edges of the pilot


class Filtering(NamedTuple):
    """What a pilot run has found: the model with room for its paths, and the particles that it takes."""

    model: Callable
    particles: int


def bootstrap_suffices(model: Callable, args: tuple, kwargs: dict) -> Filtering | None:
    """The particles with which the log-evidence of a model's jump paths is known to about one unit.

    None where all that is latent besides jump paths of reaction networks is not a few continuous parameters,
    where the user has chosen how paths are guided, or where too many particles would be needed. The evidence
    is looked at where it is largest among some prior draws.
    """
    sites = latent_sites(model, args, kwargs)
    parameters = [name for name in sites if not name.endswith(HIDDEN)]
    paths = [name for name in sites if name.endswith((PATH, ROOTS))]
    size = sum(int(np.size(sites[name]["value"])) for name in parameters)
    if not paths or len(paths) + len(parameters) < len(sites) or not 0 < size <= _MOST_PARAMETERS:
        return None
    if any(sites[name]["fn"].support.is_discrete for name in parameters):
        return None
    jumping = _jumping(model, args, kwargs)
    if {name + PATH for name in jumping} != {name for name in paths if name.endswith(PATH)}:  # but of agents
        return None
    if any(options - {"max_events"} for options in jumping.values()):
        return None
    pieces = max(sites[name]["value"].shape[0] for name in paths if name.endswith(PATH))
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
    particles = max(_FEWEST, 10 * int(np.ceil(needed / 10)))
    room = {name: {"max_events": _room(int(most), roomy)} for name, most in events.items()}
    return Filtering(PreparedModel(model, room), particles)


def _jumping(model: Callable, args: tuple, kwargs: dict) -> dict[str, set[str]]:
    """Names of the graphs of reaction networks of a model, and of the options given with each."""
    found: dict[str, set[str]] = {}

    def declare() -> None:
        for name, (graph, options) in recorded_options(model, args, kwargs, {}).items():
            if has_jump_path(graph):
                found[name] = set(options)

    jax.eval_shape(declare)
    return found


def _most_events(packed: jax.Array) -> jax.Array:
    """Most events on an edge, of paths that are packed as the sites of paths are."""
    return jnp.max(jnp.sum(packed[..., 1] >= 0, axis=-1))


def _room(most: int, limit: int) -> int:
    """A buffer of events on an edge, twice as long as what was met."""
    return min(_LEAST_ROOM * -(-2 * most // _LEAST_ROOM) + _LEAST_ROOM, limit)
