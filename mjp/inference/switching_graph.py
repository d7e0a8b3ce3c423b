"""Chains of a switching diffusion, evaluated: steps in order, what is known of the path, regimes' chain.

Arrays over steps have the axes (steps F, series S) last, those over regimes one axis K before them.
"""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array

from mjp._by_content import ByContent
from mjp._small_matrices import cholesky, dot, log_determinant, solve_lower
from mjp.graph import Edges, Graph
from mjp.inference.gaussian_graph import root_law
from mjp.inference.matrix_exponential import product
from mjp.inference.merging import merged
from mjp.inference.pinning import exact_values
from mjp.inference.rules.finite_states import SNAPSHOT
from mjp.inference.rules.registry import rule_of
from mjp.inference.safe_logs import log_or_never
from mjp.processes.gaussian import Interval
from mjp.processes.switching_diffusion import SwitchingDiffusion
from mjp.vector_trajectory import Ends


@dataclass(frozen=True, eq=False)
class Layout(ByContent):
    """What is known before compilation; static in a pytree and compared by content."""

    n_series: int
    n_times: int
    per_edge: int  # steps
    ends: Ends  # of the edges, series after series
    known: np.ndarray  # (T, S) whether the state at a node is seen without error
    root_noise: bool  # whether the first state has a law
    dim: int

    @property
    def n_nodes(self) -> int:
        return self.n_series * self.n_times

    @property
    def n_steps(self) -> int:
        """Of one series, F."""
        return (self.n_times - 1) * self.per_edge

    @property
    def known_step(self) -> np.ndarray:
        """(F, S) whether the state at the end of a step is known."""
        known = np.zeros((self.n_steps, self.n_series), dtype=bool)
        known[self.per_edge - 1 :: self.per_edge] = self.known[1:]
        return known

    @property
    def free(self) -> np.ndarray:
        """Positions (F',) of the steps whose end is not known in every series."""
        return np.flatnonzero(~self.known_step.all(axis=1))

    @property
    def all_known(self) -> bool:
        """Whether the whole path is known."""
        return not self.root_noise and len(self.free) == 0


@dataclass(frozen=True, eq=False)
class Pairs(ByContent):
    """Which matrix moves the regime from each step to the next; static in a pytree, compared by content."""

    index: np.ndarray  # (F - 1, S)


class RegimeChain(eqx.Module):
    """The hidden Markov chain of the regimes of the steps.

    Attributes:
        first: (S, K) law of the regime of the first step.
        matrices: (U + 1, K, K) from a step's regime to that of the next; the last one is the identity.
    """

    first: Array
    matrices: Array
    pairs: Pairs = eqx.field(static=True)

    @property
    def index(self) -> np.ndarray:
        """(F - 1, S) matrix of each pair of steps."""
        return self.pairs.index

    def moves(self) -> Array:
        """Matrices (K, K, F, S) from every step's regime to the next; the identity for the last step."""
        whole = np.concatenate([self.index, np.full((1, len(self.first)), len(self.matrices) - 1)])
        return jnp.moveaxis(self.matrices[whole], (2, 3), (0, 1))


class SwitchingGraph(eqx.Module):
    """A chain of a switching diffusion with everything evaluated.

    Attributes:
        at: time, duration and covariates of the steps, (F, S) each.
        root_mean: (d, S); root_factor: (d, d, S), zero for a known value.
        values: (d, T, S) states that are seen without error, else zero.
    """

    process: SwitchingDiffusion
    at: Interval
    regimes: RegimeChain
    root_mean: Array
    root_factor: Array
    values: Array
    layout: Layout = eqx.field(static=True)

    @property
    def values_at_ends(self) -> Array:
        """States (d, F, S) that are seen without error at the ends of steps; of use where these are known."""
        return jnp.repeat(self.values[:, 1:], self.layout.per_edge, axis=1)

    def steps(self, states: Array, at: Interval) -> tuple[Array, Array]:
        """Means (d, K, ...) and lower factors (d, d, K, ...) of the steps of all regimes from (d, ...)."""
        step = self.process.steps
        for _ in range(states.ndim - 1):
            step = jax.vmap(step, in_axes=-1, out_axes=-1)
        mean, covariance = step(states, at)
        return mean, cholesky(covariance)

    def log_densities(self, before: Array, after: Array) -> Array:
        """Log-densities (K, F, S) of all steps of paths, given the regime, from (d, F, S) to (d, F, S)."""
        mean, lower = self.steps(before, self.at)
        return log_normal(after[:, None] - mean, lower)


def log_normal(error: Array, lower: Array) -> Array:
    """Log-densities (...) at errors (d, ...) of normal laws with lower factors (d, d, ...)."""
    white = solve_lower(lower, error[:, None])[:, 0]
    return -0.5 * dot(white, white) - log_determinant(lower) - 0.5 * len(error) * jnp.log(2 * jnp.pi)


def evaluate(graph: Graph, *, observed: bool) -> SwitchingGraph:
    """Evaluate a chain of a switching diffusion.

    Raises:
        TypeError: a graph that is not a chain.
        ValueError: a part of a state seen without error, or the first one; states of the wrong shape.
    """
    if graph.kind != "chain" or len(graph.edges) != 1:
        raise TypeError(f"a SwitchingDiffusion lives on chains (mjp.chain), got a {graph.kind}")
    chain: Any = graph
    edges = merged(graph.edges)[0]
    process: Any = edges.process
    n_series, n_times, dim = chain.n_series or 1, chain.n_times, process.dim
    n, dtype = edges.steps or 1, jnp.result_type(float)
    values, known = _known_states(graph, dim, (n_series, n_times), observed)
    mean, factor = root_law(graph.roots[0], dim, graph)
    layout = Layout(
        n_series,
        n_times,
        n,
        Ends(edges.parents, edges.children),
        known,
        isinstance(graph.roots[0].initial, dist.Distribution),
        dim,
    )
    return SwitchingGraph(
        process,
        _intervals(edges, n, n_series),
        _regime_chain(process, edges, n, n_series),
        mean.T.astype(dtype),
        factor.astype(dtype),
        values,
        layout,
    )


def _intervals(edges: Edges, n: int, n_series: int) -> Interval:
    """All steps in order, (F, S)."""
    dtype = jnp.result_type(float)
    starts, durations = (
        jnp.asarray(v, dtype).reshape(n_series, -1).T for v in (edges.starts, edges.durations)
    )
    length = durations / n
    times = starts[:, None] + length[:, None] * np.arange(n)[:, None]
    spread = lambda v: jnp.repeat(jnp.asarray(v).reshape(n_series, -1).T, n, axis=0)
    covariates = {name: spread(v) for name, v in edges.covariates.items()}
    return Interval(times.reshape(-1, n_series), jnp.repeat(length, n, axis=0), covariates)


def _regime_chain(process: SwitchingDiffusion, edges: Edges, n: int, n_series: int) -> RegimeChain:
    """From the middle of every step to that of the next: two halves, which may belong to different edges."""
    halves = replace(edges, process=process.switching, durations=edges.durations / (2 * n))
    arrival = np.full(len(edges.children), SNAPSHOT)
    kernels = rule_of(process.switching).kernels(process.switching, halves, arrival)
    half, edge = kernels.matrices, np.asarray(kernels.index).reshape(n_series, -1).T
    of_step = np.repeat(edge, n, axis=0)
    pairs = np.stack([of_step[:-1], of_step[1:]], axis=-1).reshape(-1, 2)
    distinct, index = np.unique(pairs, axis=0, return_inverse=True)
    first, matrices = _middle_to_middle(process.first_regime(), half, of_step[0], distinct)
    return RegimeChain(first, matrices, Pairs(index.reshape(-1, n_series).astype(np.int32)))


@jax.jit  # called outside compiled functions, operations would compile one by one
def _middle_to_middle(law: Array, half: Array, first: np.ndarray, pairs: np.ndarray) -> tuple[Array, Array]:
    """Law of the first step's regime, and matrices with the identity at their end; see `RegimeChain`.

    Args:
        half: (H, K, K) over half a step; first: (S,), pairs: (U, 2), which of them.
    """
    matrices = product(half[pairs[:, 0]], half[pairs[:, 1]])
    identity = jnp.eye(len(law), dtype=matrices.dtype)[None]
    return law @ half[first], jnp.concatenate([matrices, identity])


def _known_states(graph: Graph, dim: int, shape: tuple[int, int], observed: bool) -> tuple[Array, np.ndarray]:
    n_series, n_times = shape
    values, known = jnp.zeros((dim, graph.n_nodes)), np.zeros(graph.n_nodes, dtype=bool)
    for pins in exact_values(graph, dim) if observed else ():
        twice = pins.nodes[known[pins.nodes]]
        if len(twice):
            raise ValueError(f"{graph.describe_node(int(twice[0]))} is observed exactly twice")
        first = pins.nodes[pins.nodes % n_times == 0]
        if len(first):
            raise ValueError(
                f"{graph.describe_node(int(first[0]))} is a root and cannot be observed exactly; give its "
                "value as initial, and NaN in its place"
            )
        if pins.look.shape != (dim, dim):
            node = graph.describe_node(int(pins.nodes[0]))
            raise ValueError(
                f"a SwitchingDiffusion is seen without error as a whole or not at all, but at {node} "
                f"{pins.look.shape[0]} of {dim} coordinates are; observe them with a small variance"
            )
        seen = jnp.linalg.solve(pins.look, pins.values.T)
        values, known[pins.nodes] = values.at[:, pins.nodes].set(seen), True
    by_time = jnp.swapaxes(values.reshape(dim, n_series, n_times), 1, 2)
    return by_time, known.reshape(n_series, n_times).T


def log_moves(model: SwitchingGraph) -> Array:
    """Logs (K, K, F, S) of the probabilities from every step's regime to the next."""
    return log_or_never(model.regimes.moves())
