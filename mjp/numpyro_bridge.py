"""The one place where mjp meets NumPyro's effect handlers."""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import block, seed, substitute, trace
from numpyro.primitives import _PYRO_STACK, plate

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference import cheapest_options, condition, is_exact_family
from mjp.inference.agent_path_law import AgentPathLaw, AgentPathLikelihood
from mjp.inference.anchors import Anchors
from mjp.inference.condition import Guided
from mjp.inference.path_law import PathLaw, PathLikelihood
from mjp.inference.state_path_law import StatePathLaw
from mjp.processes import InteractingParticles, MarkovJump, ReactionNetwork
from mjp.processes.gaussian import GaussianProcess
from mjp.trajectory import Trajectory

INNOVATIONS, PATH, ROOTS = "/innovations", "/path", "/roots"
HIDDEN = (INNOVATIONS, PATH, ROOTS)  # ends of the names of latent sites that belong to paths
_JUMPS = "mjp jumps"  # marks the factor of a graph whose path is a jump path
_JUMP_ROOM = 64  # events, real and virtual, on an edge of a path of finite states that is a site
_EVENTS = 256  # on an edge, where neither the user nor a fit has chosen a buffer

_RECORDERS: list[dict[str, tuple[Graph, dict[str, Any]]]] = []
_COLLECTORS: list[dict[str, "Conditioned"]] = []
_STRUCTURE_ONLY: list[bool] = []
_DEFAULTS: list[dict[str, dict[str, Any]]] = []
_LINEAR_NOISE: list[bool] = []


class Conditioned(NamedTuple):
    """A graph of a model at given parameters, with what its observations say, and a path."""

    graph: Graph
    guided: Any  # Guided, or PathLikelihood
    trajectory: Trajectory


class MarginalPath:
    """Stands for a path that inference has marginalised; it has no value while parameters are inferred."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise RuntimeError(
            f"the path {self._name!r} is marginalised while parameters are inferred, so {attribute!r} has no "
            "value here; read it from Predictive, or from fit.paths"
        )

    def __getitem__(self, node: Any) -> Any:
        return self.__getattr__(f"[{node!r}]")


def sample(name: str, graph: Graph, **options: Any) -> Trajectory | MarginalPath:
    """Condition a graph inside a NumPyro model.

    The path of an exactly conditioned graph is marginalised: the site `name + "/log_likelihood"` is a
    factor, with one entry per member of the graph's batch (subject, series) or, for a single chain
    outside of plates, per time (the one-step-ahead densities), so that log-likelihoods are pointwise.
    Under `Predictive`, or any `seed` handler, the path is drawn from its law given the parameters and
    the data, and the deterministic site `name` holds the states at the nodes.

    The path of any other graph is a smooth function of standard normal innovations, which are the
    latent site `name + "/innovations"`; the factor is the evidence of the guide times the weight of the
    path, one entry per member of the graph's batch.

    The path of interacting particles, which is discrete, is the latent site `name + "/path"`, see
    `mjp.inference.AgentPathLaw`, for `mjp.inference.IndividualForwardBackward`.

    The path of a graph of reaction networks, which no gradient reaches, is the latent site `name + "/path"`
    with the law of the network, see `mjp.inference.PathLaw`; the factor has one entry per node, the
    log-likelihood of its observations given the path. It is a site for `mjp.inference.ParticleGibbs`, while
    gradient-based kernels see the smooth density of the complete data. With `latent="innovations"` the path
    is a function of innovations instead, for `mjp.inference.CrankNicolson`.

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
    if _DEFAULTS and name in _DEFAULTS[-1]:
        options = {**_DEFAULTS[-1][name], **options}
    if has_jump_path(graph):
        options.setdefault("max_events", _EVENTS)
    if _RECORDERS:
        _RECORDERS[-1][name] = (graph, options)
        return MarginalPath(name)
    if has_jump_path(graph):
        return _linear_noise(name, graph, options) if _LINEAR_NOISE else _jump_path(name, graph, options)
    if has_agent_path(graph):
        return _agent_path(name, graph, options)
    if has_state_path(graph, options):
        return _state_path(name, graph, options)
    if not is_exact_family(graph):
        return _guided(name, graph, options)
    if _STRUCTURE_ONLY:
        numpyro.factor(f"{name}/log_likelihood", jnp.zeros(()))
        return MarginalPath(name)
    if _initialising():
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
    return not _seeded() and not all(is_concrete(leaf) for leaf in leaves)


def _marginal(name: str, graph: Graph, guided: Guided) -> Trajectory | MarginalPath:
    """A path that is exactly conditioned: a factor, and a draw where randomness is to be had."""
    if not guided.exact:
        raise ValueError(f"{name}: the path is marginalised, which takes its exact law; give no auxiliary")
    _factor(name, _pointwise(guided))
    if not _seeded():
        return MarginalPath(name)
    key = numpyro.prng_key()
    if key is None:
        return MarginalPath(name)
    trajectory, _ = guided.sample(key)
    _collect(name, graph, guided, trajectory)
    numpyro.deterministic(name, trajectory.values)
    return trajectory


def _guided(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path that may not be exactly conditioned: its innovations are a latent site."""
    abstract, guided = None, None
    if _STRUCTURE_ONLY or _initialising():
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
    if not guided.smooth and not has_jump_path(graph):
        raise ValueError(
            f"{name}: the path of this graph is discrete and not exactly conditioned, so that it cannot be "
            "marginalised in a NumPyro model; give a larger max_table and no auxiliary, or estimate the "
            "evidence by mjp.evidence"
        )
    z = _innovations(name, graph, guided)
    if abstract is not None:
        _factor(name, jnp.zeros(abstract.shape, abstract.dtype))
        return MarginalPath(name)
    trajectory, log_weight = guided.push(z)
    if guided.open_ended and _seeded() and (key := numpyro.prng_key()) is not None:
        trajectory = guided.complete(trajectory, key)
    _collect(name, graph, guided, trajectory)
    _factor(name, guided.log_evidence + log_weight)
    if _seeded():
        numpyro.deterministic(name, trajectory.values)
    return trajectory


def has_jump_path(graph: Graph) -> bool:
    """Whether the path of a graph is neither marginalised nor a smooth function of innovations."""
    return any(isinstance(edges.process, ReactionNetwork) for edges in graph.edges)


def _jump_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of counts as a latent site of its own."""
    latent = options.pop("latent", "path")
    if latent not in ("path", "innovations"):
        raise ValueError(f"latent must be 'path' or 'innovations', got {latent!r}")
    if latent == "innovations":
        return _guided(name, graph, options)
    size = options["max_events"]
    roots = _first_states(name, graph)
    law = PathLaw(graph, size, roots)
    return _given_path(name, graph, law, law.empty, PathLikelihood)


def has_agents(graph: Graph) -> bool:
    """Whether the states of a graph are those of interacting particles, or of factorial chains."""
    return any(isinstance(edges.process, InteractingParticles) for edges in graph.edges)


def has_agent_path(graph: Graph) -> bool:
    """Whether the path of a graph is one of agents, and a discrete latent site."""
    return has_agents(graph) and not is_exact_family(graph)


def has_sampled_path(graph: Graph) -> bool:
    """Whether the path of a graph is a latent site of its own, given which the data are independent."""
    return has_jump_path(graph) or has_agent_path(graph)


def _agent_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of interacting particles as a latent site of its own."""
    if options:
        raise ValueError(f"{name}: a path of interacting particles is drawn without {sorted(options)}")
    law = AgentPathLaw(graph)
    return _given_path(name, graph, law, law.start, AgentPathLikelihood)


def _given_path(
    name: str, graph: Graph, law: Any, start: Any, likelihood_of: Callable[[Any], Any]
) -> Trajectory | MarginalPath:
    """A path as a latent site with its law; the factor is the likelihood of the data given the path."""
    if _plate_sizes():
        raise ValueError(
            f"{name}: a path as a latent site inside of the plates {_plate_sizes()}; declare all series in "
            "one graph (series= of mjp.chain, or a panel), outside of plates"
        )
    if _STRUCTURE_ONLY or _initialising():
        _at_start(name + PATH, law, start)
        _jump_factor(name, jnp.zeros(graph.n_nodes))
        return MarginalPath(name)
    trajectory = law.trajectory(numpyro.sample(name + PATH, law))
    likelihood = likelihood_of(law)
    _collect(name, graph, likelihood, trajectory)
    _jump_factor(name, likelihood.log_likelihoods(trajectory))
    if _seeded():
        numpyro.deterministic(name, trajectory.values)
    return trajectory


def has_state_path(graph: Graph, options: dict[str, Any]) -> bool:
    """Whether the path of a graph of finite states is to be a site; raises where it cannot be.

    Raises:
        ValueError: `latent` of another value, or for another family.
    """
    latent = options.get("latent")
    if latent is None or has_jump_path(graph):
        return False
    finite = all(isinstance(edges.process, MarkovJump) for edges in graph.edges)
    if latent != "path" or not finite:
        raise ValueError(
            f"latent={latent!r}: reaction networks take 'path' or 'innovations', MarkovJump takes 'path'; "
            "other paths are marginalised, or follow from their innovations"
        )
    return True


def state_path_law(graph: Graph, options: dict[str, Any]) -> StatePathLaw:
    """The law of a path of finite states that is a site."""
    return StatePathLaw(graph, options.get("max_jumps", _JUMP_ROOM))


def _state_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of finite states as a latent site of its own."""
    law = state_path_law(graph, options)
    return _given_path(name, graph, law, law.constant, lambda law: law)


def _linear_noise(name: str, graph: Graph, options: dict[str, Any]) -> MarginalPath:
    """The evidence of the linear noise approximation in place of a path and its observations."""
    chosen = options.get("auxiliary")
    options = {k: v for k, v in options.items() if k not in ("auxiliary", "latent")}
    auxiliary = chosen if isinstance(chosen, GaussianProcess | Anchors) else "linear noise"
    evidence = lambda: condition(graph, auxiliary=auxiliary, **options).log_evidence
    if _STRUCTURE_ONLY or _initialising():
        shape = jax.eval_shape(evidence)
        terms = jnp.zeros(shape.shape, shape.dtype)
    else:
        terms = evidence()
    numpyro.factor(f"{name}/log_likelihood", terms)
    return MarginalPath(name)


def _jump_factor(name: str, terms: jax.Array) -> None:
    law = dist.Unit(terms)
    numpyro.sample(f"{name}/log_likelihood", law, obs=law.sample(None), infer={_JUMPS: True})  # type: ignore[arg-type]


def _first_states(name: str, graph: Graph) -> Any:
    """First states of a graph whose roots have a law, as a latent site; None where they are known."""
    laws = [roots.initial for roots in graph.roots if isinstance(roots.initial, dist.Distribution)]
    if not laws:
        return None
    if len(laws) < len(graph.roots) or len(graph.roots) > 1:
        raise ValueError(
            f"{name}: the roots of a graph of counts must share one law, or all have known values"
        )
    n = len(graph.roots[0].nodes)
    law: Any = laws[0].expand([n]).to_event(1)
    process: Any = graph.edges[0].process
    if _STRUCTURE_ONLY or _initialising():
        start = jnp.broadcast_to(jnp.round(jnp.asarray(laws[0].mean)), (n, process.n_species))
        return _at_start(name + ROOTS, law, start.astype(jnp.int32))
    return numpyro.sample(name + ROOTS, law)


def _at_start(site: str, law: Any, start: jax.Array) -> jax.Array:
    """A latent site at a value that does not come from its law, unless another was given."""
    with warnings.catch_warnings(), substitute(data={site: start}):
        warnings.filterwarnings("ignore", message=".*already stores a value")
        value: Any = numpyro.sample(site, law)
    return value


def _first(found: list[Guided], guided: Guided) -> Guided:
    found.append(guided)
    return guided


def _innovations(name: str, graph: Graph, guided: Guided) -> dict[str, jax.Array]:
    """The latent site of standard normal innovations, which starts at zero: the guided mean."""
    shapes = guided.innovations
    n = graph.batch_shape[0] if graph.batch_shape and _plate_sizes() else 1
    if _plate_sizes() and not graph.batch_shape:
        raise ValueError(
            f"{name}: a single path inside of the plates {_plate_sizes()}; give the graph one series per "
            "member (series= of mjp.chain, or data of shape (series, times))"
        )
    size = sum(math.prod(shape) for shape in shapes.values())
    law = dist.Normal(0.0, 1.0).expand([size // n]).to_event(1)
    site = name + INNOVATIONS
    start = jnp.zeros((n, size // n) if graph.batch_shape and _plate_sizes() else (size,))
    flat = _at_start(site, law, start) if _initialising() else numpyro.sample(site, law)
    return unflatten(jnp.reshape(jnp.asarray(flat), (n, size // n)), shapes)


def unflatten(flat: jax.Array, shapes: dict[str, tuple[int, ...]]) -> dict[str, jax.Array]:
    """Innovations by name from rows (n, size), one per member of the batch; members come first."""
    n, result, start = flat.shape[0], {}, 0
    for name, shape in shapes.items():
        width = math.prod(shape) // n
        result[name] = flat[:, start : start + width].reshape(shape)
        start += width
    return result


def _collect(name: str, graph: Graph, guided: Any, trajectory: Trajectory) -> None:
    if _COLLECTORS:
        _COLLECTORS[-1][name] = Conditioned(graph, guided, trajectory)


def _seeded() -> bool:
    return any(isinstance(handler, seed) for handler in _PYRO_STACK)


def _pointwise(guided: Guided) -> jax.Array:
    terms = getattr(guided, "terms", None)
    in_plate = any(isinstance(handler, plate) for handler in _PYRO_STACK)
    return guided.log_evidence if terms is None or in_plate else terms


def _factor(name: str, log_likelihood: jax.Array) -> None:
    sizes, shape = _plate_sizes(), log_likelihood.shape
    for axis in range(-len(shape), 0):
        size = sizes.get(axis)
        if sizes and shape[axis] != 1 and size != shape[axis]:
            raise ValueError(
                f"{name}: the graph has batch shape {shape}, which does not fit the enclosing plates {sizes}"
            )
    numpyro.factor(f"{name}/log_likelihood", log_likelihood)


def _plate_sizes() -> dict[int, int]:
    return {
        handler.dim: handler.size
        for handler in _PYRO_STACK
        if isinstance(handler, plate) and handler.dim is not None
    }


def _initialising() -> bool:
    """Whether the model runs only for an initial value of its latent sites."""
    for handler in _PYRO_STACK:
        if isinstance(handler, substitute) and handler.substitute_fn is not None:
            strategy = handler.substitute_fn
            strategy = strategy.func if isinstance(strategy, partial) else strategy
            if getattr(strategy, "__module__", "") == "numpyro.infer.initialization":
                return True
    return False


@contextmanager
def recording() -> Iterator[dict[str, tuple[Graph, dict[str, Any]]]]:
    """Collect the graphs and options that a model passes to `mjp.sample`, without conditioning them."""
    graphs: dict[str, tuple[Graph, dict[str, Any]]] = {}
    _RECORDERS.append(graphs)
    try:
        yield graphs
    finally:
        _RECORDERS.pop()


@contextmanager
def defaults(options: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Condition the graphs of a model with given options, unless the model chooses others.

    Anchors of guides are such options: innovations mean the same path only together with the anchors that
    were in force.
    """
    _DEFAULTS.append(options)
    try:
        yield
    finally:
        _DEFAULTS.pop()


@contextmanager
def structure_only() -> Iterator[None]:
    """Let `mjp.sample` contribute nothing, where only the latent sites of a model are of interest."""
    _STRUCTURE_ONLY.append(True)
    try:
        yield
    finally:
        _STRUCTURE_ONLY.pop()


def structure(model: Callable, args: tuple, kwargs: dict, key: jax.Array) -> dict[str, dict[str, Any]]:
    """The sites of one prior run of a model, without looking at the data of its graphs."""
    with structure_only():
        return trace(seed(model, key)).get_trace(*args, **kwargs)


def without_jump_paths(model: Callable) -> Callable:
    """The model without its jump paths and what was observed of them, which must be given as conditions."""

    def hidden(site: dict[str, Any]) -> bool:
        return site["name"].endswith((PATH, ROOTS)) or bool(site["infer"].get(_JUMPS))

    def hide(site: dict[str, Any]) -> bool:
        return site["type"] == "sample" and hidden(site)

    return block(model, hide_fn=hide)


def with_linear_noise(model: Callable) -> Callable:
    """The model with the linear noise approximation, which is smooth, in place of its jump paths."""

    def approximated(*args: Any, **kwargs: Any) -> Any:
        _LINEAR_NOISE.append(True)
        try:
            return model(*args, **kwargs)
        finally:
            _LINEAR_NOISE.pop()

    return approximated


def latent_sites(model: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The model's latent sample sites by name; their values are `jax.ShapeDtypeStruct`s."""
    found: dict[str, dict[str, Any]] = {}

    def run() -> dict[str, Any]:
        for name, site in structure(model, args, kwargs, jax.random.key(0)).items():
            if site["type"] == "sample" and not site["is_observed"]:
                found[name] = site
        return {name: site["value"] for name, site in found.items()}

    values = jax.eval_shape(run)
    return {name: {**site, "value": values[name]} for name, site in found.items()}


def pointwise_log_likelihood(
    model: Callable, args: tuple, kwargs: dict, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Log-likelihood of every observed site at one value of the parameters.

    The factor of a graph appears under the graph's own name. For a guided path it is the log-density of
    each observed node given the path.
    """
    collected: dict[str, Conditioned] = {}
    _COLLECTORS.append(collected)
    try:
        found = trace(substitute(model, data=parameters)).get_trace(*args, **kwargs)
    finally:
        _COLLECTORS.pop()
    result = {}
    for name, site in found.items():
        if site["type"] == "sample" and site["is_observed"]:
            result[name.removesuffix("/log_likelihood")] = site["fn"].log_prob(site["value"])
    for name, graph in collected.items():
        result[name] = graph.guided.log_likelihoods(graph.trajectory)  # type: ignore[attr-defined]
    return result


def graphs_of(model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any]) -> dict[str, Graph]:
    """Graphs that a model declares at given values of its latent sites."""
    recorded = recorded_options(model, args, kwargs, parameters)
    return {name: graph for name, (graph, _) in recorded.items()}


def recorded_options(
    model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any]
) -> dict[str, tuple[Graph, dict[str, Any]]]:
    """Graphs that a model declares at given values of its latent sites, and the options given with them."""
    with recording() as recorded:
        substitute(seed(model, jax.random.key(0)), data=parameters)(*args, **kwargs)
    return recorded


def conditioned_graphs(
    model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any], key: jax.Array
) -> dict[str, Conditioned]:
    """Graphs of a model, conditioned at given values of its latent sites, each with a path.

    A guided path is that of the given innovations; an exactly conditioned one is drawn with the key.
    """
    found: dict[str, Conditioned] = {}
    _COLLECTORS.append(found)
    try:
        substitute(seed(model, key), data=parameters)(*args, **kwargs)
    finally:
        _COLLECTORS.pop()
    return found
