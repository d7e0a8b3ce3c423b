"""What surrounds a model while it runs: how its graphs are treated, and NumPyro's handlers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from numpyro.handlers import seed, substitute
from numpyro.primitives import _PYRO_STACK, plate

from mjp.graph import Graph
from mjp.trajectory import Trajectory

RECORDERS: list[dict[str, tuple[Graph, dict[str, Any]]]] = []
COLLECTORS: list[dict[str, "Conditioned"]] = []
STRUCTURE_ONLY: list[bool] = []
DEFAULTS: list[dict[str, dict[str, Any]]] = []
LINEAR_NOISE: list[bool] = []


class Conditioned(NamedTuple):
    """A graph of a model at given parameters, with what its observations say, and a path."""

    graph: Graph
    guided: Any  # Guided, or PathLikelihood
    trajectory: Trajectory


@contextmanager
def recording() -> Iterator[dict[str, tuple[Graph, dict[str, Any]]]]:
    """Collect the graphs and options that a model passes to `mjp.sample`, without conditioning them."""
    graphs: dict[str, tuple[Graph, dict[str, Any]]] = {}
    RECORDERS.append(graphs)
    try:
        yield graphs
    finally:
        RECORDERS.pop()


@contextmanager
def defaults(options: dict[str, dict[str, Any]]) -> Iterator[None]:
    """Condition the graphs of a model with given options, unless the model chooses others.

    Anchors of guides are such options: innovations mean the same path only together with the anchors that
    were in force.
    """
    DEFAULTS.append(options)
    try:
        yield
    finally:
        DEFAULTS.pop()


@contextmanager
def structure_only() -> Iterator[None]:
    """Let `mjp.sample` contribute nothing, where only the latent sites of a model are of interest."""
    STRUCTURE_ONLY.append(True)
    try:
        yield
    finally:
        STRUCTURE_ONLY.pop()


def with_linear_noise(model: Callable) -> Callable:
    """The model with the linear noise approximation, which is smooth, in place of its jump paths."""

    def approximated(*args: Any, **kwargs: Any) -> Any:
        LINEAR_NOISE.append(True)
        try:
            return model(*args, **kwargs)
        finally:
            LINEAR_NOISE.pop()

    return approximated


def collect(name: str, graph: Graph, guided: Any, trajectory: Trajectory) -> None:
    if COLLECTORS:
        COLLECTORS[-1][name] = Conditioned(graph, guided, trajectory)


def seeded() -> bool:
    return any(isinstance(handler, seed) for handler in _PYRO_STACK)


def plate_sizes() -> dict[int, int]:
    return {
        handler.dim: handler.size
        for handler in _PYRO_STACK
        if isinstance(handler, plate) and handler.dim is not None
    }


def initialising() -> bool:
    """Whether the model runs only for an initial value of its latent sites."""
    for handler in _PYRO_STACK:
        if isinstance(handler, substitute) and handler.substitute_fn is not None:
            strategy = handler.substitute_fn
            strategy = strategy.func if isinstance(strategy, partial) else strategy
            if getattr(strategy, "__module__", "") == "numpyro.infer.initialization":
                return True
    return False
