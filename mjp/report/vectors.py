"""Graphs with vector states in words, and which of their observations are in the unit of a coordinate."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from mjp.graph import Graph, Observations
from mjp.likelihood_covariates import at_covariates, first_row, take_rows
from mjp.numpyro_bridge import INNOVATIONS, has_agents, has_jump_path, has_sampled_path
from mjp.observations import Exactly, LinearGaussianObservation
from mjp.processes import (
    Diffusion,
    FactorialChain,
    InteractingJumps,
    LinearDiffusion,
    LinearGaussian,
    ReactionNetwork,
    StateSpace,
    SwitchingDiffusion,
)

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SCHEMES = {"euler": "the Euler–Maruyama scheme", "local linearisation": "local linearisation"}


def process_in_words(graph: Graph) -> str:
    """The processes of a graph with vector states, such as `Diffusion of 2 coordinates`.

    A network is told by its species and reactions.
    """
    if has_jump_path(graph):
        networks: Any = graph.edges[0].process
        return f"ReactionNetwork of {', '.join(networks.species)} ({'; '.join(networks.reactions)})"
    if has_agents(graph):
        agents: Any = graph.edges[0].process
        if isinstance(agents, FactorialChain):
            return f"FactorialChain of {agents.n} chains"
        contacts = len(agents.contacts.sources)
        return f"{type(agents).__name__}: {agents.n} agents with {contacts} directed contacts"
    names = list(dict.fromkeys(type(edges.process).__name__ for edges in graph.edges))
    process: Any = graph.edges[0].process
    unit = "coordinate" if process.dim == 1 else "coordinates"
    return f"{' and '.join(names)} of {process.dim} {unit}"


def vector_rows(fit: "Fit", name: str, graph: Graph) -> list[list[str]]:
    """How the process moves, and how it is conditioned."""
    moves = list(dict.fromkeys(_steps(edges) for edges in graph.edges))
    if has_sampled_path(graph):
        how = "sampled: whole paths are drawn beside the parameters, given which the data are independent"
    elif is_guided(fit, name):
        how = (
            "guided: paths follow from innovations that are sampled with the parameters, and their weights "
            "make the posterior exact for the process as it is stepped"
        )
    else:
        how = "exact: the path is integrated out, and drawn afterwards"
    return [[f"steps of {name!r}", "; ".join(moves)], [f"conditioning of {name!r}", how]]


def is_guided(fit: "Fit", name: str) -> bool:
    """Whether the path is sampled through its innovations, and not integrated out."""
    return f"{name}{INNOVATIONS}" in fit.samples


def _steps(edges: Any) -> str:
    process = edges.process
    n = edges.steps or 1
    per_edge = f"{n} step{'s' if n > 1 else ''} per edge"
    if isinstance(process, ReactionNetwork):
        return "reaction by reaction in continuous time, without discretisation"
    if isinstance(process, InteractingJumps):
        return "agent by agent in continuous time, without discretisation"
    if isinstance(process, Diffusion):
        return f"{per_edge} by {_SCHEMES[process.scheme]}; the discretisation is part of the model"
    if isinstance(process, SwitchingDiffusion):
        regimes = ", ".join(map(str, process.regimes))
        return (
            f"{per_edge}, each in one of the regimes {regimes}; the discretisation is part of the model, and "
            "regimes are integrated out"
        )
    if isinstance(process, LinearDiffusion):
        return "exact transitions of a linear diffusion, without discretisation"
    if isinstance(process, LinearGaussian):
        return "one linear-Gaussian step per edge"
    if isinstance(process, StateSpace):
        kind = "linear-Gaussian" if process.linear else "nonlinear Gaussian"
        return f"one {kind} step per edge"
    return per_edge


def shown_coordinates(
    observed: Observations, dim: int, view: Callable[[Any], Any] = lambda x: x
) -> list[int | None]:
    """For each entry of an observation the coordinate that it is a noisy record of, or None.

    An entry records a coordinate if its mean is that coordinate, whatever the state and the covariates.

    Args:
        view: from a state to what the likelihood reads, `Process.view`.
    """
    likelihood: Any = observed.likelihood
    if isinstance(likelihood, Exactly):
        return list(range(dim))
    states = np.random.default_rng(0).normal(size=(4, dim))
    if isinstance(likelihood, LinearGaussianObservation):
        if likelihood.matrix.ndim != 2:
            return [None] * likelihood.matrix.shape[1]
        means = states @ np.asarray(likelihood.matrix).T + np.asarray(likelihood.offset)
    else:
        rows = take_rows(
            observed.covariates, np.linspace(0, len(observed.nodes) - 1, len(states)).astype(int)
        )
        law = lambda x, own: at_covariates(likelihood, own)(view(x))
        try:
            mean = lambda x, own: jnp.atleast_1d(law(x, own).mean)
            means = np.asarray(jax.vmap(mean)(jnp.asarray(states), rows))
        except NotImplementedError:  # a law without a mean
            return [None] * int(np.prod(law(jnp.asarray(states[0]), first_row(rows)).shape()))
    found: list[int | None] = []
    for column in means.reshape(len(states), -1).T:
        same = [i for i in range(dim) if np.allclose(column, states[:, i], rtol=1e-5)]
        found.append(same[0] if same else None)
    return found
