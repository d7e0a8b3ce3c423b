"""Conditioning graphs that mix families: guided by products of potentials, one for each node."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr

from mjp._checks import check_count
from mjp.graph import Graph
from mjp.inference.belief_propagation import refer
from mjp.inference.by_node import each
from mjp.inference.condition import Guided, draw_innovations
from mjp.inference.evidence_checks import check_finite_evidence
from mjp.inference.finite_agents import with_finite_agents
from mjp.inference.finite_networks import with_finite_networks
from mjp.inference.gamma_factor import GammaFactor
from mjp.inference.joint_factors import GaussianFactor, Space
from mjp.inference.jump_edges import buffer_of, jump_innovations, jump_paths, pieces_of
from mjp.inference.mixed_draw import guided_draw
from mjp.inference.mixed_filter import Guide, References, backward, log_evidence, no_references
from mjp.inference.mixed_graph import MixedGraph, VectorRoots, evaluate
from mjp.inference.mixed_simulation import prior_draw
from mjp.inference.observing import observations_of
from mjp.inference.rules.registry import register_engine, register_simulator
from mjp.mixed_trajectory import MixedTrajectory, rows_of
from mjp.state_trajectory import StateTrajectory
from mjp.trajectory import Names
from mjp.vector_trajectory import VectorPaths, VectorTrajectory

AUXILIARIES = ("guided mean", "prior mean")
_COVERS = (
    "finite states",
    "several parents",
    "gaussian",
    "gamma tails",
    "counts",
    "particles",
    "jumping particles",
    "factorial chains",
)
_ITERATIONS = 2


class MixedGuided(Guided):
    """A conditioned graph that mixes families.

    Attributes:
        log_evidence: of the guide, ().
        anchors: reference laws, and where factors, steps and likelihoods were expanded.
    """

    log_evidence: Array
    graph: MixedGraph
    guide: Guide
    anchors: References
    names: Names
    exact: bool = eqx.field(static=True)
    max_jumps: int = eqx.field(static=True)

    @property
    def innovations(self) -> dict[str, tuple[int, ...]]:
        """Innovations of the states at nodes, of vectors, of the steps on edges, and of jump paths."""
        return _innovations(self.graph, self.max_jumps)

    @property
    def smooth(self) -> bool:
        """Whether all nodes are vectors."""
        return len(self.graph.layout.states) == 0

    def push(self, z: dict[str, Array]) -> tuple[MixedTrajectory, Array]:
        """The draw as a function of innovations, smooth in those of vectors while the states stay."""
        return _push(self, z)

    def log_likelihoods(self, path: MixedTrajectory) -> Array:
        """Log-densities (n_nodes,) of the observations of each node given the path; those of several nodes
        at once count at the last of them."""
        graph, n = self.graph, self.graph.layout.n_graph_nodes
        total = jnp.zeros(n, self.log_evidence.dtype)
        states: dict[Space, Array] = {}
        for space in graph.layout.spaces:
            nodes = graph.layout.members(space)
            nodes = nodes[nodes < n]
            if space.finite:
                assert path.states is not None
                states[space] = path.states.values
                total = total.at[nodes].add(graph.likelihoods[space][path.states.values[nodes], nodes])
                continue
            values = path.vectors[space.size].values
            states[space] = values.T
            for observed in graph.sites.get(space, []):
                terms = observed.site.log_likelihood(values[observed.nodes])
                total = total.at[observed.nodes].add(terms)
        for factor in graph.observed:
            above = [states[s][..., factor.where.parents[:, i]] for i, s in enumerate(factor.spaces)]
            one = lambda own, above, _, f=factor: f.log_value(own, above, None)
            total = total.at[factor.where.parents[:, -1]].add(each(one, factor.inputs, above, None))
        return total


def _innovations(graph: MixedGraph, max_jumps: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        name: (len(nodes), *shape) for name, (nodes, shape) in of_nodes(graph).items()
    }
    for name, factor in _bridges(graph):
        shapes[name] = factor.kind.shapes.shape
    return {**shapes, **jump_innovations(graph.jumps, max_jumps)}


def of_nodes(graph: MixedGraph) -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    """Nodes (rows,) in whose turn innovations are used, and the shape of those of each, by name; not of paths
    between nodes."""
    found: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {}
    if len(graph.layout.states):
        found["states"] = (graph.layout.states, ())
    for space, nodes in _noisy_vectors(graph).items():
        found[f"vectors{space.size}"] = (nodes, (space.size,))
    for i, kind in enumerate(graph.kinds):
        found[f"steps{i or ''}"] = (np.asarray(kind.ends.children), (kind.n_steps, kind.process.noise_dim))
    return found


def driving(graph: MixedGraph, z: dict[str, Array]) -> tuple[Array, dict[Space, Array], list[Array]]:
    """Uniform numbers (n + 1,) of states, innovations (d, n + 1) of vectors, and those of steps by kind."""
    layout, n, dtype = graph.layout, graph.layout.n_nodes + 1, jnp.result_type(float)
    uniforms = jnp.zeros(n, dtype)
    if len(layout.states):
        uniforms = uniforms.at[layout.states].set(ndtr(z["states"]))
    noise = {space: jnp.zeros((space.size, n), dtype) for space in layout.spaces if not space.finite}
    for space, nodes in _noisy_vectors(graph).items():
        noise[space] = noise[space].at[:, nodes].set(z[f"vectors{space.size}"].T)
    return uniforms, noise, [z[f"steps{i or ''}"] for i in range(len(graph.kinds))]


@eqx.filter_jit
def _push(guided: MixedGuided, z: dict[str, Array]) -> tuple[MixedTrajectory, Array]:
    graph = guided.graph
    uniforms, noise, steps = driving(graph, z)
    states, before, estimate = guided_draw(graph, guided.guide, guided.anchors, uniforms, noise, steps)
    weight = estimate - guided.log_evidence
    path = _trajectory(graph, guided.names, states, before, z)
    return path, jnp.zeros_like(weight) if guided.exact else weight


@eqx.filter_jit
def _pushed_freely(graph: MixedGraph, names: Names, z: dict[str, Array]) -> MixedTrajectory:
    """The prior draw as a function of innovations."""
    return _trajectory(graph, names, *prior_draw(graph, *driving(graph, z)), z)


def _trajectory(
    graph: MixedGraph,
    names: Names,
    states: dict[Space, Array],
    before: list[Array],
    z: dict[str, Array],
) -> MixedTrajectory:
    layout, n = graph.layout, graph.layout.n_graph_nodes
    uniforms = {k: ndtr(v) for k, v in z.items() if k.startswith("jumps")}
    finite, vectors = None, {}
    if len(layout.states):
        positions = jnp.full(layout.n_nodes, -1, jnp.int32)
        for space in layout.spaces:
            if space.finite:
                nodes = layout.members(space)
                positions = positions.at[nodes].set(states[space][nodes])
        jumps = jump_paths(graph.jumps, positions, uniforms, pieces_of(graph.jumps))
        finite = StateTrajectory(values=positions[:n], observations=(), jumps=jumps, names=names)
    for space in layout.spaces:
        if space.finite:
            continue
        nodes = layout.members(space)
        values = (
            jnp.full((n, space.size), jnp.nan, states[space].dtype).at[nodes].set(states[space][:, nodes].T)
        )
        own: list[tuple[Any, Array]] = [
            (kind, x) for kind, x in zip(graph.kinds, before, strict=True) if kind.process.dim == space.size
        ]
        if space.size == 1:
            bridges = {id(factor): z[name] for name, factor in _bridges(graph)}
            gammas = [factor for factor in graph.factors if isinstance(factor, GammaFactor)]
            own += [(f.kind, f.before(states[space], bridges.get(id(f)))) for f in gammas]
        paths = VectorPaths(
            tuple(kind.ends for kind, _ in own),
            tuple(kind.times for kind, _ in own),
            tuple(kind.durations for kind, _ in own),
            tuple(x for _, x in own),
            n,
        )
        vectors[space.size] = VectorTrajectory(values=values, observations=(), paths=paths, names=names)
    values = rows_of(None if finite is None else finite.values, {d: v.values for d, v in vectors.items()})
    return MixedTrajectory(values=values, observations=(), states=finite, vectors=vectors, names=names)


def _bridges(graph: MixedGraph) -> list[tuple[str, GammaFactor]]:
    """Gamma processes on edges of several steps, and what their innovations are called."""
    gammas = [factor for factor in graph.factors if isinstance(factor, GammaFactor)]
    return [(f"bridges{i or ''}", f) for i, f in enumerate(gammas) if f.kind.n_steps > 1]


def _noisy_vectors(graph: MixedGraph) -> dict[Space, np.ndarray]:
    """Nodes, by space, that are vectors which no Gaussian edge leads to, and which are not known."""
    found: dict[Space, list[np.ndarray]] = {}
    for factor in graph.factors:
        if isinstance(factor, GaussianFactor | GammaFactor):
            found.setdefault(factor.child, []).append(factor.where.children)
    for roots in graph.roots:
        if isinstance(roots, VectorRoots) and roots.random:
            found.setdefault(roots.space, []).append(roots.rows.children)
    return {space: np.sort(np.concatenate(nodes)) for space, nodes in found.items()}


@register_engine(
    "mixed families",
    covers=_COVERS,
    auxiliary="prior mean",
)
def condition_mixed(
    graph: Graph,
    *,
    auxiliary: Any = None,
    iterations: int | None = None,
    max_jumps: int | None = None,
    observed: bool = True,
) -> MixedGuided:
    """Project, linearise, filter backwards and return the guided graph; see `mjp.condition`."""
    check_count("iterations", iterations)
    check_count("max_jumps", max_jumps)
    if auxiliary is not None and not isinstance(auxiliary, References) and auxiliary not in AUXILIARIES:
        raise ValueError(
            f"auxiliary must be anchors of an earlier condition, or one of {list(AUXILIARIES)}, got "
            f"{auxiliary!r}"
        )
    graph = with_finite_agents(with_finite_networks(graph))
    model = evaluate(graph, observed=observed)
    rounds = _ITERATIONS if iterations is None else iterations
    start = auxiliary if isinstance(auxiliary, References) else None
    rounds = 0 if auxiliary == "prior mean" or not observed else rounds
    evidence, anchors, guide = _prepare(model, start, rounds)
    check_finite_evidence(evidence, lambda: _CAUSE)
    return MixedGuided(
        log_evidence=evidence,
        graph=model,
        guide=guide,
        anchors=anchors,
        names=_names(graph, model),
        exact=_is_exact(model),
        max_jumps=max_jumps or buffer_of(model.jumps),
    )


_CAUSE = (
    "the observations are impossible under the model, or a mean, a covariance or a drift is not finite where "
    "the guide was built"
)


@eqx.filter_jit
def _prepare(model: MixedGraph, start: References | None, rounds: int) -> tuple[Array, References, Guide]:
    if start is not None:
        guide = backward(model, start)
        return log_evidence(model, guide), start, guide

    def again(carry: tuple[References, Guide], _: None) -> tuple[tuple[References, Guide], None]:
        anchors = refer(model, carry[1])
        return (anchors, backward(model, anchors)), None

    # a guide of zeros says nothing, so that the first references are those of the prior
    nowhere = no_references(model)
    shapes = jax.eval_shape(lambda: backward(model, nowhere))
    nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    (anchors, guide), _ = jax.lax.scan(again, (nowhere, nothing), None, length=rounds + 1)
    return log_evidence(model, guide), anchors, guide


def _names(graph: Graph, model: MixedGraph) -> Names:
    labels: Any = model.layout.labels[: graph.n_nodes]
    return Names(graph, (), labels)


def _is_exact(model: MixedGraph) -> bool:
    """Whether no factor is projected, no step linearised and no likelihood expanded."""
    sites = all(observed.site.exact for sites in model.sites.values() for observed in sites)
    linear = all(kind.process.linear for kind in model.kinds)
    return sites and linear and not model.observed and all(factor.exact for factor in model.factors)


@register_simulator("mixed families")
def simulate_mixed(graph: Graph, key: Array) -> MixedTrajectory:
    """Draw the nodes forward, and their observations, those of several nodes last."""
    graph = with_finite_agents(with_finite_networks(graph))
    path_key, single_key, joint_key = jax.random.split(key, 3)
    model = evaluate(graph, observed=False)
    z = draw_innovations(_innovations(model, buffer_of(model.jumps)), path_key)
    path = _pushed_freely(model, _names(graph, model), z)
    seen: list[Any] = []
    for batch, k in zip(
        graph.observations, jax.random.split(single_key, len(graph.observations) + 1), strict=False
    ):
        part = Graph()
        part.edges, part.observations = graph.edges, [batch]
        dim = path._dim(graph.names[int(batch.nodes[0])])
        values = (
            path.states.values if dim is None and path.states is not None else path.vectors[dim or 0].values
        )
        seen += observations_of(part, values, k)
    for joint, k in zip(
        graph.joint_observations, jax.random.split(joint_key, len(graph.joint_observations) + 1), strict=False
    ):
        states = [path[graph.names[node]] for node in joint.nodes]
        seen.append(jnp.asarray(joint.likelihood(*states).sample(k)))
    return eqx.tree_at(
        lambda t: t.observations, path, tuple(seen), is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
