"""Exact conditioning of chains and panels of sparse jump processes, by actions on vectors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import ndtr

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference.condition import Guided
from mjp.inference.finite_states import Declared, declared
from mjp.inference.path_sweeps import draw
from mjp.inference.potentials.categorical import Categorical
from mjp.inference.rules.finite_states import EXACT_TRANSITION
from mjp.inference.rules.registry import register, register_engine
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.schedule import Paths, schedule_paths
from mjp.inference.segments import Segments, segment_sum
from mjp.inference.sparse_action import SparsePattern, exponential_action
from mjp.processes.sparse_markov_jump import SparseMarkovJump
from mjp.state_trajectory import StateTrajectory
from mjp.trajectory import Names, Trajectory


@register(SparseMarkovJump)
class SparseMarkovJumpRule:
    """An edge of duration t applies exp(Q t) to a vector; see `mjp.inference.sparse_action`."""

    engine = "sparse states"

    def pieces(self, process: SparseMarkovJump) -> tuple[float, ...]:
        return ()


class SparseStates(eqx.Module):
    """One group of paths with what its sweeps need.

    Attributes:
        initial: (S, K) weights of the first state; nodes: (L + 1, S, K) potentials.
        durations: (L, S) of each edge, zero beyond the end of a path.
        arrives: (L, S) whether the child is entered at an exact time.
    """

    pattern: SparsePattern
    rates: Array
    initial: Array
    nodes: Categorical
    durations: Array
    arrives: Array
    paths: Paths

    def forward(self, laws: Array, durations: Array, arrives: Array) -> Array:
        """Push measures (S, K) along one edge each."""

        def one(law: Array, duration: Array, enters: Array) -> Array:
            pushed = exponential_action(self.pattern, self.rates, duration, law, transposed=True)
            return jnp.where(enters, self.pattern.enter(self.rates, pushed), pushed)

        return jax.vmap(one)(laws, durations, arrives)

    def backward(self, potentials: Array, durations: Array, arrives: Array) -> Array:
        """Pull functions (S, K) back along one edge each."""

        def one(g: Array, duration: Array, enters: Array) -> Array:
            g = jnp.where(enters, self.pattern.leave(self.rates, g), g)
            return exponential_action(self.pattern, self.rates, duration, g)

        return jax.vmap(one)(potentials, durations, arrives)


class SparseGuided(Guided):
    """The conditioned graph; draws of the states at the nodes are exact, and paths between are not drawn."""

    log_evidence: Array
    terms: Array | None
    groups: tuple[SparseStates, ...]
    known: np.ndarray
    names: Names
    exact: bool = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the states at the nodes."""
        return {"nodes": self.known.shape}

    def push(self, z: dict[str, Array]) -> tuple[Trajectory, Array]:
        """States at the nodes as a function of innovations; there are no jump paths."""
        uniforms = jnp.append(ndtr(z["nodes"]), 0.0)
        states = jnp.asarray(np.maximum(self.known, 0), jnp.int32)
        for group in self.groups:
            drawn = _guided_states(group, _backward_filter(group), uniforms[group.paths.nodes])
            nodes = group.paths.nodes
            real = (nodes < len(self.known)) & (np.append(self.known, 0)[nodes] == UNKNOWN)
            states = states.at[nodes[real]].set(drawn[real])
        return StateTrajectory(values=states, observations=(), jumps=None, names=self.names), jnp.zeros_like(
            self.log_evidence
        )


def _backward_filter(group: SparseStates) -> Array:
    """Normalised potentials (L + 1, S, K) at every node."""

    def step(child: Array, x: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        values, durations, arrives = x
        potential = values * group.backward(child, durations, arrives)
        potential = potential / jnp.maximum(jnp.sum(potential, axis=-1, keepdims=True), _tiny(potential))
        return potential, potential

    last = group.nodes.values[-1]
    _, filtered = lax.scan(
        step, last, (group.nodes.values[:-1], group.durations, group.arrives), reverse=True
    )
    return jnp.concatenate([filtered, last[None]])


def _guided_states(group: SparseStates, potentials: Array, uniforms: Array) -> Array:
    """States (L + 1, S) drawn forward from the conditioned kernel."""
    n_states = potentials.shape[-1]

    def step(state: Array, x: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        values, durations, arrives, uniform = x
        at_state = jax.nn.one_hot(state, n_states, dtype=values.dtype)
        state = draw(group.forward(at_state, durations, arrives) * values, uniform)
        return state, state

    first = draw(group.initial * potentials[0], uniforms[0])
    xs = (potentials[1:], group.durations, group.arrives, uniforms[1:])
    _, states = lax.scan(step, first, xs)
    return jnp.concatenate([first[None], states])


def _increments(group: SparseStates) -> Array:
    """Log-increments of the forward filter, (L + 1, S)."""

    def normalise(joint: Array) -> tuple[Array, Array]:
        total = jnp.sum(joint, axis=-1)
        return joint / jnp.maximum(total, _tiny(joint))[:, None], jnp.log(total)

    def step(law: Array, x: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        values, durations, arrives = x
        return normalise(group.forward(law, durations, arrives) * values)

    first, start = normalise(group.initial * group.nodes.values[0])
    _, increments = lax.scan(step, first, (group.nodes.values[1:], group.durations, group.arrives))
    return jnp.concatenate([start[None], increments]) + group.nodes.log_scale


def _tiny(array: Array) -> float:
    return float(jnp.finfo(array.dtype).tiny)


def _group(d: Declared, process: SparseMarkovJump, potentials: Categorical, paths: Paths) -> SparseStates:
    n, k = len(d.parent), process.n_states
    known = np.append(d.evidence.known, UNKNOWN)[paths.nodes]
    mask = (known[..., None] == np.arange(k)) | (known == UNKNOWN)[..., None]
    values = potentials.values[paths.nodes] * mask
    root_of = np.full(n + 1, -1)
    root_of[d.root_nodes] = np.arange(len(d.root_nodes))
    batch = d.edges[0]
    edge_of = np.full(n + 1, len(batch.children))
    edge_of[batch.children] = np.arange(len(batch.children))
    durations = jnp.append(jnp.asarray(batch.durations, values.dtype), 0.0)[edge_of[paths.nodes[1:]]]
    return SparseStates(
        SparsePattern(process.source, process.target, k),
        jnp.asarray(process.rates, values.dtype),
        d.root_laws[root_of[paths.nodes[0]]],
        Categorical(values, potentials.log_scale[paths.nodes]),
        durations,
        jnp.asarray(np.append(d.arrival, 0)[paths.nodes[1:]] != 0),
        paths,
    )


@register_engine("sparse states", exact=True)
def condition_sparse_states(
    graph: Graph, *, observed: bool = True, max_jumps: int | None = None
) -> SparseGuided:
    """Filter along the paths of a chain or a panel; `max_jumps` has no effect.

    Raises:
        TypeError: the graph branches, or mixes processes. ValueError: rows that are exact transition
            times, or observations that are impossible.
    """
    d = declared(graph, observed=observed)
    processes = {id(edges.process) for edges in d.edges}
    if len(processes) > 1 or len(d.edges) > 1:
        raise TypeError("a graph of SparseMarkovJump must carry one process on all edges")
    if np.any(d.arrival == EXACT_TRANSITION):
        raise ValueError("transitions: exact transition times are not supported by SparseMarkovJump")
    process = d.edges[0].process
    assert isinstance(process, SparseMarkovJump)
    # known states are one-hot potentials, so that paths run from root to leaf
    cut = schedule_paths(d.parent, np.zeros(len(d.parent), dtype=bool), d.component)
    if cut is None:
        raise TypeError("SparseMarkovJump works on chains and panels; use MarkovJump on trees")
    potentials = d.evidence.potentials()
    groups = tuple(_group(d, process, potentials, paths) for paths in cut[0])
    n_components = max(int(np.prod(graph.batch_shape)), 1)
    evidence, terms = jnp.zeros(n_components, potentials.values.dtype), None
    for group in groups:
        increments = _increments(group)
        by_path = jnp.sum(increments, axis=0)
        evidence = evidence + segment_sum(by_path, Segments(group.paths.component, n_components))
        if not graph.batch_shape and len(groups) == 1 and group.paths.nodes.shape[1] == 1:
            terms = increments[np.argsort(group.paths.nodes[:, 0]), 0]
    evidence = evidence.reshape(graph.batch_shape)
    if observed and is_concrete(evidence) and not np.all(np.asarray(evidence) > -np.inf):
        bad = int(np.flatnonzero(~(np.asarray(evidence).reshape(-1) > -np.inf))[0])
        where = f" of subject {graph.panel.subjects[bad]!r}" if hasattr(graph, "panel") else ""  # type: ignore[attr-defined]
        raise ValueError(f"the observations{where} are impossible under the model: the likelihood is zero")
    return SparseGuided(
        log_evidence=evidence,
        terms=terms,
        groups=groups,
        known=d.evidence.known,
        names=Names(graph, tuple(process.states)),
        exact=True,
    )
