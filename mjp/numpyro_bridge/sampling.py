"""`mjp.sample`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.primitives import _PYRO_STACK, plate

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference import cheapest_options, condition, is_exact_family
from mjp.inference.condition import Guided
from mjp.inference.jump_edges import DEFAULT_BUFFER
from mjp.numpyro_bridge.contexts import (
    DEFAULTS,
    LINEAR_NOISE,
    RECORDERS,
    STRUCTURE_ONLY,
    collect,
    initialising,
    plate_sizes,
    seeded,
)
from mjp.numpyro_bridge.kinds import (
    INNOVATIONS,
    LOG_LIKELIHOOD,
    ROUGH,
    has_agent_path,
    has_jump_path,
    has_state_path,
    mixes_families,
)
from mjp.numpyro_bridge.marginal import MarginalPath
from mjp.numpyro_bridge.path_sites import agent_path, at_start, jump_path, linear_noise, state_path
from mjp.trajectory import Trajectory

_EVENTS = 256  # on an edge, where neither the user nor a fit has chosen a buffer


def sample(name: str, graph: Graph, **options: Any) -> Trajectory | MarginalPath:
    """Condition a graph inside a NumPyro model.

    The path of an exactly conditioned graph is marginalised: the site `name + ".log_likelihood"` is a
    factor, with one entry per member of the graph's batch (subject, series) or, for a single chain
    outside of plates, per time (the one-step-ahead densities), so that log-likelihoods are pointwise.
    Under `Predictive`, or any `seed` handler, the path is drawn from its law given the parameters and
    the data, and the deterministic site `name` holds the states at the nodes.

    The path of any other graph is a smooth function of standard normal innovations, which are the
    latent site `name + ".innovations"`; the factor is the evidence of the guide times the weight of the
    path, one entry per member of the graph's batch.

    The path of interacting particles, which is discrete, is the latent site `name + ".path"`, see
    `mjp.inference.AgentPathLaw`, for `mjp.inference.IndividualForwardBackward`. In continuous time it is
    `mjp.inference.agent_jump_law.AgentJumpLaw`, for `mjp.inference.IndividualUniformization`, with room for
    `max_jumps` of an agent (default 16) and for `max_events` on its whole path, virtual ones included
    (default 64; it takes a good deal more than 1.5 times the bound times the time); `mjp.fit` finds both.

    The path of a graph of reaction networks, which no gradient reaches, is the latent site `name + ".path"`
    with the law of the network, see `mjp.inference.PathLaw`; the factor has one entry per node, the
    log-likelihood of its observations given the path. It is a site for `mjp.inference.ParticleGibbs`, while
    gradient-based kernels see the smooth density of the complete data. With `latent="innovations"` the path
    is a function of innovations instead, for `mjp.inference.CrankNicolson`.

    So are the paths of graphs that mix families, which jump with their innovations where nodes have finitely
    many states, for `mjp.inference.CrankNicolson`.

    With `latent="path"` the path of a chain or panel of `MarkovJump` is not marginalised but a latent site of
    the same kind, see `mjp.inference.state_path_law.StatePathLaw`, for `mjp.inference.UniformizationGibbs`;
    `max_jumps` is the buffer of an edge.

    Args:
        name: name of the site.
        graph: the graph; its observations are the data.
        options: as for `mjp.condition`.

    Returns:
        the trajectory. While parameters are inferred, the path of an exactly conditioned graph is not
        there, and a stand-in raises RuntimeError when it is read.

    Raises:
        ValueError: the batch of the graph does not fit the enclosing plates.
    """
    if not isinstance(graph, Graph):
        raise TypeError(f"graph must be a mjp.Graph, got {type(graph).__name__}")
    if DEFAULTS and name in DEFAULTS[-1]:
        options = {**DEFAULTS[-1][name], **options}
    if has_jump_path(graph):
        options.setdefault("max_events", _EVENTS)
    if mixes_families(graph):
        # found from rates, it would depend on whether these are known: a site has the same size everywhere
        options.setdefault("max_jumps", DEFAULT_BUFFER)
    if RECORDERS:
        RECORDERS[-1][name] = (graph, options)
        return MarginalPath(name)
    if has_jump_path(graph):
        if LINEAR_NOISE:
            return linear_noise(name, graph, options)
        latent = options.pop("latent", "path")
        if latent not in ("path", "innovations"):
            raise ValueError(f"latent must be 'path' or 'innovations', got {latent!r}")
        chosen = jump_path if latent == "path" else _guided
        return chosen(name, graph, options)
    if has_agent_path(graph):
        return agent_path(name, graph, options)
    if has_state_path(graph, options):
        return state_path(name, graph, options)
    if not is_exact_family(graph):
        return _guided(name, graph, options)
    if STRUCTURE_ONLY:
        numpyro.factor(name + LOG_LIKELIHOOD, jnp.zeros(()))
        return MarginalPath(name)
    if initialising():
        # initialisation looks at latent sites only; the factor's shape is all that it needs
        shape = jax.eval_shape(lambda: _pointwise(condition(graph, **options)))
        _factor(name, jnp.zeros(shape.shape, shape.dtype))
        return MarginalPath(name)
    if _differentiated(graph):
        # a sampler that sets itself up runs the model outside of compilation, one operation at a time
        _factor(name, jax.jit(lambda: _pointwise(condition(graph, **options)))())
        return MarginalPath(name)
    return _marginal(name, graph, condition(graph, **options))


def _differentiated(graph: Graph) -> bool:
    """Whether a graph is only evaluated, at parameters whose values are not known."""
    leaves = (leaf for edges in graph.edges for leaf in jax.tree.leaves(edges.process))
    return not seeded() and not all(is_concrete(leaf) for leaf in leaves)


def _marginal(name: str, graph: Graph, guided: Guided) -> Trajectory | MarginalPath:
    """A path that is exactly conditioned: a factor, and a draw where randomness is to be had."""
    if not guided.exact:
        raise ValueError(f"{name}: the path is marginalised, which takes its exact law; give no auxiliary")
    _factor(name, _pointwise(guided))
    if not seeded():
        return MarginalPath(name)
    key = numpyro.prng_key()
    if key is None:
        return MarginalPath(name)
    trajectory, _ = guided.sample(key)
    collect(name, graph, guided, trajectory)
    numpyro.deterministic(name, trajectory.values)
    return trajectory


def _guided(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path that may not be exactly conditioned: its innovations are a latent site."""
    abstract, guided = None, None
    if STRUCTURE_ONLY or initialising():
        # the numbers do not matter here, and are not computed
        found: list[Guided] = []
        cheap = {**cheapest_options(graph), **options}
        shapes = jax.eval_shape(lambda: _pointwise(_first(found, condition(graph, **cheap))))
        abstract, guided = shapes, found[0]
    else:
        guided = condition(graph, **options)
    if guided.exact:
        if abstract is None:
            return _marginal(name, graph, guided)
        _factor(name, jnp.zeros(abstract.shape, abstract.dtype))
        return MarginalPath(name)
    rough = not guided.smooth
    if rough and not has_jump_path(graph) and not mixes_families(graph):
        raise ValueError(
            f"{name}: the path of this graph is discrete and not exactly conditioned, so that it cannot be "
            "marginalised in a NumPyro model; give a larger max_table and no auxiliary, or estimate the "
            "evidence by mjp.evidence"
        )
    z = _innovations(name, graph, guided, rough)
    if abstract is not None:
        _factor(name, jnp.zeros(abstract.shape, abstract.dtype))
        return MarginalPath(name)
    trajectory, log_weight = guided.push(z)
    if guided.open_ended and seeded() and (key := numpyro.prng_key()) is not None:
        trajectory = guided.complete(trajectory, key)
    collect(name, graph, guided, trajectory)
    _factor(name, guided.log_evidence + log_weight)
    if seeded():
        numpyro.deterministic(name, trajectory.values)
    return trajectory


def _first(found: list[Guided], guided: Guided) -> Guided:
    found.append(guided)
    return guided


def _innovations(name: str, graph: Graph, guided: Guided, rough: bool) -> dict[str, jax.Array]:
    """The latent site of standard normal innovations, which starts at zero: the guided mean.

    Args:
        rough: whether the path jumps as they change; the site's `infer` tells it to whoever chooses a kernel.
    """
    shapes = guided.innovations
    n = graph.batch_shape[0] if graph.batch_shape and plate_sizes() else 1
    if plate_sizes() and not graph.batch_shape:
        raise ValueError(
            f"{name}: a single path inside of the plates {plate_sizes()}; give the graph one series per "
            "member (series= of mjp.chain, or data of shape (series, times))"
        )
    sizes = plate_sizes()
    if sizes and sizes.get(-1) not in (None, n):
        raise ValueError(
            f"{name}: the graph has batch shape {graph.batch_shape}, which does not fit the enclosing plates "
            f"{sizes}"
        )
    size = sum(math.prod(shape) for shape in shapes.values())
    law = dist.Normal(0.0, 1.0).expand([size // n]).to_event(1)
    site = name + INNOVATIONS
    start = jnp.zeros((n, size // n) if graph.batch_shape and plate_sizes() else (size,))
    infer = {ROUGH: True} if rough else {}
    flat = at_start(site, law, start, infer) if initialising() else numpyro.sample(site, law, infer=infer)
    return unflatten(jnp.reshape(jnp.asarray(flat), (n, size // n)), shapes)


def unflatten(flat: jax.Array, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """Innovations by name from rows (n, size), one per member of the batch; members come first."""
    n, result, start = flat.shape[0], {}, 0
    for name, shape in shapes.items():
        width = math.prod(shape) // n
        result[name] = flat[:, start : start + width].reshape(shape)
        start += width
    return result


def flatten(innovations: dict[str, jax.Array], shapes: dict[str, tuple[int, ...]], n: int = 1) -> jax.Array:
    """Rows (n, size) of innovations by name; see `unflatten`."""
    return jnp.concatenate([innovations[name].reshape(n, -1) for name in shapes], axis=1)


def _pointwise(guided: Guided) -> jax.Array:
    terms = getattr(guided, "terms", None)
    in_plate = any(isinstance(handler, plate) for handler in _PYRO_STACK)
    return guided.log_evidence if terms is None or in_plate else terms


def _factor(name: str, log_likelihood: jax.Array) -> None:
    sizes, shape = plate_sizes(), log_likelihood.shape
    for axis in range(-len(shape), 0):
        size = sizes.get(axis)
        if sizes and shape[axis] != 1 and size != shape[axis]:
            raise ValueError(
                f"{name}: the graph has batch shape {shape}, which does not fit the enclosing plates {sizes}"
            )
    numpyro.factor(name + LOG_LIKELIHOOD, log_likelihood)
