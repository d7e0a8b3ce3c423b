"""Rules of inference, registered on the type of a process."""

from collections.abc import Callable
from typing import Any

from mjp.processes import Process

MIXED = "mixed families"

_RULES: dict[type[Process], Any] = {}
_ENGINES: dict[str, Callable[..., Any]] = {}
_SIMULATORS: dict[str, Callable[..., Any]] = {}
_EXACT: dict[str, bool | Callable[[Any], bool]] = {}
_CHEAPEST: dict[str, dict[str, Any]] = {}
_COVERS: dict[str, tuple[str, ...]] = {}


def register(process: type[Process]) -> Callable[[Any], Any]:
    """Class decorator: the decorated class holds the rules of a process family.

    A rule has an attribute `engine`, the name of the family of potentials that it works with; what else
    it must offer is stated by that engine (for finite states, `mjp.inference.rules.finite_states`).
    """

    def add(rule: Any) -> Any:
        _RULES[process] = rule()
        return rule

    return add


def rule_of(process: Process) -> Any:
    """The rules of a process; raises TypeError when none are registered."""
    for kind in type(process).__mro__:
        if kind in _RULES:
            return _RULES[kind]
    raise TypeError(f"no rules of inference are registered for {type(process).__name__}")


def register_engine(
    name: str, *, exact: bool | Callable[[Any], bool] = False, covers: tuple[str, ...] = (), **cheapest: Any
) -> Callable[[Callable], Callable]:
    """Decorator: a function from a graph to a Guided, for one family of potentials.

    Args:
        exact: whether every graph of this family is conditioned exactly; or a function that says so of one.
        covers: other families whose processes may stand beside those of this one in a graph.
        cheapest: options with which a graph is conditioned soonest, for when only shapes are of interest.
    """

    def add(engine: Callable) -> Callable:
        _ENGINES[name] = engine
        _CHEAPEST[name], _COVERS[name] = cheapest, covers
        _EXACT[name] = exact
        return engine

    return add


def register_simulator(name: str) -> Callable[[Callable], Callable]:
    """Decorator: a function `graph, key, **options -> Trajectory`, for one family of potentials.

    Families without one are simulated by conditioning on nothing.
    """

    def add(simulator: Callable) -> Callable:
        _SIMULATORS[name] = simulator
        return simulator

    return add


def common_engine(names: set[str], *, jointly: bool = False) -> str | None:
    """The engine that covers all of these families; None where there is none.

    Args:
        jointly: whether several nodes are observed at once, which takes an engine for families that mix.
    """
    own = [] if jointly else [name for name in names if names <= {name, *_COVERS.get(name, ())}]
    mixing = names <= {MIXED, *_COVERS.get(MIXED, ())}
    return next(iter([*own, *([MIXED] if mixing else [])]), None)


def simulator_of(name: str) -> Callable[..., Any] | None:
    """The simulator of a family, None where there is none."""
    return _SIMULATORS.get(name)


def engine_of(name: str) -> Callable[..., Any]:
    """The engine of a family of potentials.

    Raises:
        NotImplementedError: no engine conditions this family.
    """
    if name not in _ENGINES:
        raise NotImplementedError(f"no engine conditions graphs of {name} yet; mjp.simulate draws from them")
    return _ENGINES[name]


def cheapest_options(graph: Any) -> dict[str, Any]:
    """Options that change no shape of a conditioned graph, and need the least work."""
    names = {rule_of(edges.process).engine for edges in graph.edges}
    return _CHEAPEST[common_engine(names, jointly=bool(graph.joint_observations)) or next(iter(names))]


def is_exact_family(graph: Any) -> bool:
    """Whether a graph is conditioned exactly, as far as the families and sizes of its processes tell."""
    names = {rule_of(edges.process).engine for edges in graph.edges}
    if common_engine(names, jointly=bool(graph.joint_observations)) == MIXED:
        return False
    exact = [_EXACT.get(name, False) for name in names]
    return all(says(graph) if callable(says) else says for says in exact)
