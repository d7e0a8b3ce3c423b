"""The one place where mjp meets NumPyro's effect handlers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
from numpyro.handlers import seed, substitute, trace
from numpyro.primitives import _PYRO_STACK, plate

from mjp.graph import Graph
from mjp.inference import condition
from mjp.inference.condition import Guided
from mjp.trajectory import Trajectory

_RECORDERS: list[dict[str, Graph]] = []
_STRUCTURE_ONLY: list[bool] = []


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

    Args:
        name: name of the site.
        graph: the graph; its observations are the data.
        options: as for `mjp.condition`.

    Returns:
        the trajectory; while parameters are inferred a stand-in that raises RuntimeError when read.

    Raises:
        ValueError: the batch of the graph does not fit the enclosing plates.
    """
    if not isinstance(graph, Graph):
        raise TypeError(f"graph must be a mjp.Graph, got {type(graph).__name__}")
    if _RECORDERS:
        _RECORDERS[-1][name] = graph
        return MarginalPath(name)
    if _STRUCTURE_ONLY:
        numpyro.factor(f"{name}/log_likelihood", jnp.zeros(()))
        return MarginalPath(name)
    if _initialising():
        # initialisation looks at latent sites only; the factor's shape is all that it needs
        shape = jax.eval_shape(lambda: _pointwise(condition(graph, **options)))
        _factor(name, jnp.zeros(shape.shape, shape.dtype))
        return MarginalPath(name)
    guided = condition(graph, **options)
    _factor(name, _pointwise(guided))
    if not any(isinstance(handler, seed) for handler in _PYRO_STACK):
        return MarginalPath(name)
    key = numpyro.prng_key()
    if key is None:
        return MarginalPath(name)
    trajectory, _ = guided.sample(key)
    numpyro.deterministic(name, trajectory.values)
    return trajectory


def _pointwise(guided: Guided) -> jax.Array:
    terms = getattr(guided, "terms", None)
    in_plate = any(isinstance(handler, plate) for handler in _PYRO_STACK)
    return guided.log_evidence if terms is None or in_plate else terms


def _factor(name: str, log_likelihood: jax.Array) -> None:
    sizes = {
        handler.dim: handler.size
        for handler in _PYRO_STACK
        if isinstance(handler, plate) and handler.dim is not None
    }
    shape = log_likelihood.shape
    for axis in range(-len(shape), 0):
        size = sizes.get(axis)
        if sizes and shape[axis] != 1 and size != shape[axis]:
            raise ValueError(
                f"{name}: the graph has batch shape {shape}, which does not fit the enclosing plates {sizes}"
            )
    numpyro.factor(f"{name}/log_likelihood", log_likelihood)


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
def recording() -> Iterator[dict[str, Graph]]:
    """Collect the graphs that a model passes to `mjp.sample`, without conditioning them."""
    graphs: dict[str, Graph] = {}
    _RECORDERS.append(graphs)
    try:
        yield graphs
    finally:
        _RECORDERS.pop()


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


def latent_sites(model: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The model's latent sample sites by name, from one prior run."""
    found = structure(model, args, kwargs, jax.random.key(0))
    return {name: s for name, s in found.items() if s["type"] == "sample" and not s["is_observed"]}


def pointwise_log_likelihood(
    model: Callable, args: tuple, kwargs: dict, parameters: dict[str, Any]
) -> dict[str, Any]:
    """Log-likelihood of every observed site at one value of the parameters.

    The factor of a graph appears under the graph's own name.
    """
    found = trace(substitute(model, data=parameters)).get_trace(*args, **kwargs)
    result = {}
    for name, site in found.items():
        if site["type"] == "sample" and site["is_observed"]:
            result[name.removesuffix("/log_likelihood")] = site["fn"].log_prob(site["value"])
    return result


def graphs_of(model: Any, args: tuple, kwargs: dict, parameters: dict[str, Any]) -> dict[str, Graph]:
    """Graphs that a model declares at given values of its latent sites."""
    with recording() as graphs:
        substitute(seed(model, jax.random.key(0)), data=parameters)(*args, **kwargs)
    return graphs
