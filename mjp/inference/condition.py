"""Conditioning a graph on its observations: the backward filter and the guided draw."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._table_checks import check_covariate_tables
from mjp.graph import Edges, Graph
from mjp.inference.rules import common_engine, engine_of, rule_of
from mjp.inference.rules.registry import MIXED
from mjp.observations import EachAgent, LocalEmissions
from mjp.processes import GammaProcess, GaussianProcess, InteractingParticles
from mjp.processes.gaussian import Interval
from mjp.trajectory import Trajectory


class Guided(eqx.Module):
    """A conditioned graph; a pytree, so that it works under jit, vmap and grad.

    Attributes:
        log_evidence: log of the evidence of the guide: one entry per member of the graph's batch shape.
            The likelihood is exp(log_evidence) E[exp(log_weight)], and log_weight is zero if `exact`.
        exact: whether the guide is the conditioned process itself.
    """

    log_evidence: eqx.AbstractVar[Array]
    exact: eqx.AbstractVar[bool]

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the standard normal innovations that `push` takes."""
        raise NotImplementedError

    @property
    def smooth(self) -> bool:
        """Whether draws and weights are smooth functions of the innovations, where they are not exact."""
        return True

    def push(self, z: dict[str, Array]) -> tuple[Trajectory, Array]:
        """The guided draw as a pure function of innovations z ~ N(0, I); returns its log-weight too."""
        raise NotImplementedError

    @property
    def open_ended(self) -> bool:
        """Whether `push` leaves something of a path open, which `complete` draws."""
        return False

    def complete(self, path: Any, key: Array) -> Any:
        """The path with all of it drawn, where the innovations do not say all."""
        return path

    def trouble(self, path: Any) -> str | None:
        """Words for what is wrong with the numbers of a path that is known; None if nothing is."""
        return None

    def sample(self, key: Array) -> tuple[Trajectory, Array]:
        """A draw of the guided process and its log-weight (in the batch shape of the graph)."""
        return self.push(draw_innovations(self.innovations, key))


def draw_innovations(shapes: dict[str, tuple[int, ...]], key: Array) -> dict[str, Array]:
    """Standard normal arrays of the given shapes."""
    keys = jax.random.split(key, max(len(shapes), 1))
    dtype = jnp.result_type(float)
    return {n: jax.random.normal(k, s, dtype) for (n, s), k in zip(shapes.items(), keys, strict=False)}


def condition(graph: Graph, **options: Any) -> Guided:
    """Pull the observations back through the graph and return the guided process.

    Args:
        graph: a declared graph.
        options: for graphs of finite states, `max_jumps`: the buffer for jumps (real and virtual) on an
            edge in continuous time; by default it follows from the rates when they are known, and is 32
            inside a compiled function. Where nodes have several parents, `max_table`: most entries of a
            table that exact elimination may make (default 2**20); a graph that needs a larger one is
            guided, `exact` is then False; and `auxiliary`: "prior" or "uniform", to be guided in any case,
            with pullbacks projected by these laws of the parents. For vector states, `auxiliary`: where the
            guide is linearised, "guided mean" (default, `iterations` times, steps shortened by `damping` in
            (0, 1]), "observations" (at the state that the next observation suggests) or "prior mean"; or a
            linear process that stands for those of the edges; or the `anchors` of an earlier result; and
            `form`, in which potentials (d coordinates) are passed backward:

            - "canonical" (default): c + F'x - x'Hx / 2; fast, with few digits left where H is large. Noise
              below 1e-2 of the states in float32, or 1e-5 in float64, costs decimals of the evidence (sooner
              where the noise of steps has a low rank); nothing is said where they are lost;
            - "square root": -|r - R x|^2 / 2, H = R'R never formed, by orthogonal transformations; for
              float32 and for observations with little noise. Some 7 times the work;
            - "stacked": v = M x + L e, for observations with very little noise or none. Those of linear
              graphs may be exact in any part of the state, also in directions that the noise of one step does
              not reach, and of roots; elsewhere exact observations are what they are in the other forms. Some
              40 times the work, and more for gradients.

            All give the same numbers up to rounding. The last two are not for steps that are mixtures
            (`mjp.JumpDiffusion`). For Gamma processes, `iterations` (of the states at which likelihoods are
            expanded) and, as `auxiliary`, the `anchors` of an earlier result. For switching diffusions,
            `auxiliary`: "guided mean" (default, `iterations` times), "observations" or the `anchors` of an
            earlier result. For reaction networks,

            - `auxiliary`: "linear noise" (the chemical Langevin equation, linearised `iterations` times along
              its guided mean; default for noisy observations), "conditioned hazard" (one Gaussian step to
              the next observation; default where observations are exact), a linear Gaussian process that
              stands for the network, `mjp.inference.Towards` (transition probabilities in closed form), a
              tuple of these, whose product guides (closed forms for some species, another guide for what
              else is observed), or the `anchors` of an earlier result;
            - `clip`: least and largest log-ratio of a guided rate to that of the network, default (-2, 4),
              and none for closed forms;
            - `cells`: of the grid of times on which the guide is frozen, per edge, default `steps` of the
              edges or 20; the weights are exact for any number;
            - `max_events`: room for events on an edge; by default found from guided draws, and 256 inside
              a compiled function. Paths that need more have weight zero and are counted in `overflow`.

            For interacting particles, `auxiliary`: "mean field" (default: every agent alone, its neighbours
            at their probabilities, which the observations correct `iterations` times), "projected" (with
            what a step says of each neighbour alone, in addition), or states of all agents at all steps, at
            which neighbours are frozen: a trajectory, positions (F + 1, n), or shares of the states
            (F + 1, n, K), such as their posterior probabilities.

            For such agents in continuous time (`mjp.InteractingJumps`) too; and `max_events` and
            `max_jumps`, the room for the events of an agent in one step of the guide, virtual ones included,
            and for its jumps. Paths that do not fit have weight zero and are counted in `overflow`.

            For factorial chains, `max_table`: most combinations of states that are summed out exactly
            (default 2**12); more chains are guided one by one, as are fewer with `auxiliary="localised"`,
            where each looks at what was observed of a neighbourhood that reaches `radius` (default 1)
            emissions beyond its own.

            For graphs that mix families, `auxiliary`: where factors of several parents are projected and
            steps linearised, at reference laws of the nodes under the guided process ("guided mean", default,
            refined `iterations` times) or the "prior mean", or the `anchors` of an earlier result.

    Raises:
        ValueError: a graph without edges or roots, or data that are impossible under the model, when its
            parameters are known.
        TypeError: a process without rules, or a mixture of processes that no engine covers.
        NotImplementedError: processes that can be simulated, but not conditioned.
    """
    engine = engine_of(engine_name(graph))
    for edges in graph.edges:
        _check_tables(edges)
    return engine(graph, **options)


def _check_tables(edges: Edges) -> None:
    """Raise ValueError for a table that a process indexes by a covariate and that has too few rows."""
    process: Any = edges.process
    kind, reads, function = type(process).__name__, None, getattr(process, "function", None)
    if isinstance(process, GaussianProcess):
        state = jnp.zeros(process.dim)
        function = lambda c: process.step(state, Interval(1.0, 1.0, c))
    elif isinstance(process, GammaProcess):
        function = lambda c: process.increments(jnp.arange(2.0), c)
    elif callable(function):
        reads = process.covariates
    if callable(function):
        check_covariate_tables(kind, function, edges.covariates, reads)


def engine_name(graph: Graph) -> str:
    """The family of potentials that all processes of a graph use.

    Raises:
        ValueError: a graph without edges or roots.
        TypeError: not a graph, a process without rules, a mixture of families, or observations by agent of
            something else than agents.
    """
    if not isinstance(graph, Graph):
        raise TypeError(f"graph must be a mjp.Graph, got {type(graph).__name__}")
    if not graph.roots:
        raise ValueError("graph has no root; declare one with root()")
    if not graph.edges:
        raise ValueError("graph has no edges; declare one with edge()")
    names = {rule_of(edges.process).engine for edges in graph.edges}
    name = common_engine(names, jointly=bool(graph.joint_observations))
    if name is None:
        raise TypeError(f"no engine conditions a graph that mixes the potentials {sorted(names)}")
    agents = name == MIXED or all(isinstance(edges.process, InteractingParticles) for edges in graph.edges)
    of_agents = (observed.likelihood for observed in graph.observations)
    of_agents = [kind for kind in of_agents if isinstance(kind, EachAgent | LocalEmissions)]
    if of_agents and not agents:
        raise TypeError(
            f"likelihood: mjp.{type(of_agents[0]).__name__} is for graphs of mjp.InteractingParticles, got "
            f"one of {type(graph.edges[0].process).__name__}"
        )
    return name
