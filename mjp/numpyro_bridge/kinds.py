"""Which graphs have a path that is a latent site, and how the sites of paths are named."""

from typing import Any

from mjp._checks import check_count
from mjp.graph import Graph
from mjp.inference import is_exact_family
from mjp.inference.agent_jump_engine import JUMPS
from mjp.inference.agent_jump_law import AgentJumpLaw
from mjp.inference.condition import engine_name
from mjp.inference.rules.registry import MIXED
from mjp.inference.state_path_law import StatePathLaw
from mjp.processes import InteractingJumps, InteractingParticles, MarkovJump, ReactionNetwork

INNOVATIONS, PATH, ROOTS = ".innovations", ".path", ".roots"
LOG_LIKELIHOOD = ".log_likelihood"
ROUGH = "mjp_rough"  # in the `infer` of a site: the density is no continuous function of it
HIDDEN = (INNOVATIONS, PATH, ROOTS)  # ends of the names of latent sites that belong to paths
_JUMP_ROOM = 64  # events, real and virtual, on an edge of a path of finite states, or of an agent


def has_jump_path(graph: Graph) -> bool:
    """Whether the path of a graph is neither marginalised nor a smooth function of innovations."""
    counts = any(isinstance(edges.process, ReactionNetwork) for edges in graph.edges)
    return counts and not mixes_families(graph)


def mixes_families(graph: Graph) -> bool:
    """Whether a graph is conditioned by the engine for several families."""
    return engine_name(graph) == MIXED


def has_agents(graph: Graph) -> bool:
    """Whether the states of a graph are those of interacting particles, or of factorial chains, alone."""
    agents = any(isinstance(edges.process, InteractingParticles) for edges in graph.edges)
    return agents and not mixes_families(graph)


def has_agent_path(graph: Graph) -> bool:
    """Whether the path of a graph is one of agents, and a discrete latent site."""
    return has_agents(graph) and not is_exact_family(graph)


def has_agent_jumps(graph: Graph) -> bool:
    """Whether the path of a graph is one of agents in continuous time."""
    jumps = any(isinstance(edges.process, InteractingJumps) for edges in graph.edges)
    return jumps and not mixes_families(graph)


def agent_jump_law(graph: Graph, options: dict[str, Any]) -> AgentJumpLaw:
    """The law of the paths of agents in continuous time that are a site.

    Raises:
        ValueError: options beside `max_jumps` and `max_events`, or that are no positive integers.
    """
    unknown = sorted(set(options) - {"max_jumps", "max_events"})
    if unknown:
        raise ValueError(f"paths of agents in continuous time take max_jumps and max_events, got {unknown}")
    for option in options:
        check_count(option, options[option])
    process: Any = graph.edges[0].process
    size = options.get("max_jumps") or process.most_jumps or JUMPS
    return AgentJumpLaw(graph, size, options.get("max_events") or _JUMP_ROOM)


def has_sampled_path(graph: Graph) -> bool:
    """Whether the path of a graph is a latent site of its own, given which the data are independent."""
    return has_jump_path(graph) or has_agent_path(graph)


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
