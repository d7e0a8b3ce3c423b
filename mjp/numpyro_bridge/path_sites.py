"""Paths that are latent sites of their own, given which the data are independent."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import block, substitute

from mjp.graph import Graph
from mjp.inference import condition
from mjp.inference.agent_path_law import AgentPathLaw, AgentPathLikelihood
from mjp.inference.anchors import Anchors
from mjp.inference.path_law import PathLaw, PathLikelihood
from mjp.numpyro_bridge.contexts import STRUCTURE_ONLY, collect, initialising, plate_sizes, seeded
from mjp.numpyro_bridge.kinds import (
    LOG_LIKELIHOOD,
    PATH,
    ROOTS,
    agent_jump_law,
    has_agent_jumps,
    state_path_law,
)
from mjp.numpyro_bridge.marginal import MarginalPath
from mjp.processes.gaussian import GaussianProcess
from mjp.trajectory import Trajectory


def jump_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of counts as a latent site of its own."""
    size = options["max_events"]
    roots = _first_states(name, graph)
    law = PathLaw(graph, size, roots)
    return _given_path(name, graph, law, law.empty, PathLikelihood)


def agent_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of interacting particles as a latent site of its own."""
    if has_agent_jumps(graph):
        jumps = agent_jump_law(graph, options)
        return _given_path(name, graph, jumps, jumps.start, AgentPathLikelihood)
    if options:
        raise ValueError(f"{name}: a path of interacting particles is drawn without {sorted(options)}")
    law = AgentPathLaw(graph)
    return _given_path(name, graph, law, law.start, AgentPathLikelihood)


def state_path(name: str, graph: Graph, options: dict[str, Any]) -> Trajectory | MarginalPath:
    """A path of finite states as a latent site of its own."""
    law = state_path_law(graph, options)
    return _given_path(name, graph, law, law.constant, lambda law: law)


def _given_path(
    name: str, graph: Graph, law: Any, start: Any, likelihood_of: Callable[[Any], Any]
) -> Trajectory | MarginalPath:
    """A path as a latent site with its law; the factor is the likelihood of the data given the path."""
    if plate_sizes():
        raise ValueError(
            f"{name}: a path as a latent site inside of the plates {plate_sizes()}; declare all series in "
            "one graph (series= of mjp.chain, or a panel), outside of plates"
        )
    if STRUCTURE_ONLY or initialising():
        at_start(name + PATH, law, start)
        numpyro.factor(name + LOG_LIKELIHOOD, jnp.zeros(graph.n_nodes))
        return MarginalPath(name)
    trajectory = law.trajectory(numpyro.sample(name + PATH, law))
    likelihood = likelihood_of(law)
    collect(name, graph, likelihood, trajectory)
    numpyro.factor(name + LOG_LIKELIHOOD, likelihood.log_likelihoods(trajectory))
    if seeded():
        numpyro.deterministic(name, trajectory.values)
    return trajectory


def linear_noise(name: str, graph: Graph, options: dict[str, Any]) -> MarginalPath:
    """The evidence of the linear noise approximation in place of a path and its observations."""
    chosen = options.get("auxiliary")
    options = {k: v for k, v in options.items() if k not in ("auxiliary", "latent")}
    auxiliary = chosen if isinstance(chosen, GaussianProcess | Anchors) else "linear noise"
    evidence = lambda: condition(graph, auxiliary=auxiliary, **options).log_evidence
    if STRUCTURE_ONLY or initialising():
        shape = jax.eval_shape(evidence)
        terms = jnp.zeros(shape.shape, shape.dtype)
    else:
        terms = evidence()
    numpyro.factor(name + LOG_LIKELIHOOD, terms)
    return MarginalPath(name)


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
    if STRUCTURE_ONLY or initialising():
        start = jnp.broadcast_to(jnp.round(jnp.asarray(laws[0].mean)), (n, process.n_species))
        return at_start(name + ROOTS, law, start.astype(jnp.int32))
    return numpyro.sample(name + ROOTS, law)


def at_start(site: str, law: Any, start: jax.Array, infer: dict[str, Any] | None = None) -> jax.Array:
    """A latent site at a value that does not come from its law, unless another was given."""
    with warnings.catch_warnings(), substitute(data={site: start}):
        warnings.filterwarnings("ignore", message=".*already stores a value")
        value: Any = numpyro.sample(site, law, infer=infer)
    return value


def without_paths(model: Callable, paths: Iterable[str]) -> Callable:
    """The model without the sites of some paths and what was observed of these.

    Args:
        paths: names of the sites, which must be given as conditions.
    """
    hidden = {*paths, *(name.rsplit(".", 1)[0] + LOG_LIKELIHOOD for name in paths)}
    return block(model, hide_fn=lambda site: site["type"] == "sample" and site["name"] in hidden)
