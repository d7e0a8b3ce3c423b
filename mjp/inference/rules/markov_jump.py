"""Rules of finite-state Markov jump processes."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Edges
from mjp.inference.matrix_exponential import Pairs, product, transition_matrices
from mjp.inference.rules.finite_states import (
    ENTRY,
    EXACT_TRANSITION,
    NO_JUMP,
    Jumps,
    Kernels,
    distinct_covariates,
    over_covariates,
)
from mjp.inference.rules.registry import register
from mjp.inference.segments import Segments, take
from mjp.processes import MarkovJump


@register(MarkovJump)
class MarkovJumpRule:
    """An edge of duration t has the matrix exp(Q t), or a density where its end is an exact jump time.

    A child entered at an exact time gives exp(Q t) off(Q), with off(Q) the generator without its
    diagonal; a row that is an exact transition time gives exp(diag(Q) t) (I + off(Q)). These are the
    likelihoods of R's msm for `deathexact` and `obstype = 2` (Jackson 2011, §1.4). Where rates change
    before an exact transition time, the pieces up to then have the matrix exp(diag(Q) t).
    """

    engine = "finite states"

    def kernels(self, process: MarkovJump, edges: Edges, arrival: np.ndarray) -> Kernels:
        rows, row = distinct_covariates(process, edges, process.covariates)
        generators = over_covariates(process.generator, rows)  # (rows, pieces, K, K)
        _check_rates(process, rows, generators)
        n_states, n_pieces = process.n_states, process.n_pieces
        piece = _piece(process, edges)
        used, which = np.unique(row * n_pieces + piece, return_inverse=True)
        which = which.reshape(-1).astype(np.int32)
        generators = generators.reshape(-1, n_states, n_states)
        if len(used) < generators.shape[0]:
            generators = generators[used]
        off = generators * (1.0 - np.eye(n_states))
        index = np.zeros(len(which), dtype=np.int32)
        parts, offset = [], 0

        identity = jnp.eye(n_states, dtype=off.dtype)
        during, pair = identity[None], np.zeros_like(index)
        constant = arrival == NO_JUMP
        through = (arrival != EXACT_TRANSITION) & ~constant
        if np.any(through):
            pairs = Pairs(which[through], edges.durations[through], len(used))
            matrices = transition_matrices(generators, pairs)
            index[through] = pair[through] = pairs.edge
            during = matrices
            parts, offset = [matrices], matrices.shape[0]
            entry = arrival == ENTRY
            if np.any(entry):
                entered, inverse = np.unique(pairs.edge[entry[through]], return_inverse=True)
                before = take(matrices, Segments(entered, matrices.shape[0]))
                rates = off if len(used) == 1 else take(off, Segments(pairs.generator[entered], len(used)))
                parts.append(product(before, rates))
                index[entry] = offset + inverse.reshape(-1)
                offset += len(entered)
        for chosen, jump in (
            (arrival == EXACT_TRANSITION, identity + off),
            (constant, jnp.zeros_like(off) + identity),
        ):
            if np.any(chosen):
                pairs = Pairs(which[chosen], edges.durations[chosen], len(used))
                own = Segments(pairs.generator, len(used))
                exit_rate = take(jnp.diagonal(generators, axis1=-2, axis2=-1), own)
                survival = jnp.exp(exit_rate * jnp.asarray(pairs.duration)[:, None])
                parts.append(survival[:, :, None] * take(jump, own))
                index[chosen] = offset + pairs.edge
                offset += len(survival)
        matrices = jnp.concatenate(parts) if len(parts) > 1 else parts[0]
        jumps = Jumps(generators, which, edges.durations, edges.starts, arrival, during, pair)
        return Kernels(matrices, index, jumps)

    def pieces(self, process: MarkovJump) -> tuple[float, ...]:
        return process.breaks


def _check_rates(process: MarkovJump, rows: dict, generators: Array) -> None:
    """Raise ValueError that names the covariates at which a function gives rates that are not rates."""
    if process.function is None or not is_concrete(generators):
        return
    off = np.asarray(generators) * (1.0 - np.eye(process.n_states))
    bad = np.argwhere(~(np.isfinite(off) & (off >= 0)))
    if len(bad):
        row, piece, a, b = (int(i) for i in bad[0])
        where = {name: np.asarray(values)[row].item() for name, values in rows.items()}
        raise ValueError(
            f"the rate from {process.states[a]!r} to {process.states[b]!r} must be finite and >= 0, got "
            f"{off[row, piece, a, b]} at the covariates {where}"
        )


def _piece(process: MarkovJump, edges: Edges) -> np.ndarray:
    if not process.breaks:
        return np.zeros(len(edges.children), dtype=np.int64)
    if not is_concrete(edges.starts):
        raise TypeError("breaks: rates that change in time need times that are known before compilation")
    return np.searchsorted(np.asarray(process.breaks), np.asarray(edges.starts), side="right")
