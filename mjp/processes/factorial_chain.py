"""Factorial Markov chains: several chains side by side, that only observations bring together."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import networkx as nx
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_count, check_stochastic
from mjp.processes.interacting_particles import InteractingParticles


class FactorialChain(InteractingParticles):
    """M Markov chains on K states that move independently, each with its own transition matrix.

    The hidden part of a factorial hidden Markov model (Ghahramani & Jordan 1997, Mach. Learn. 29:245): what
    is observed depends on several of the chains at once, see `mjp.LocalEmissions`. The state of a node is the
    vector of the chains' states, labels where it is declared and positions (M,) in what is simulated. An edge
    is one step.

        lanes = mjp.FactorialChain([[0.4, 0.6], [0.8, 0.2]], n=5)
        g = mjp.chain(lanes, range(200), initial=[0] * 5)
        pairs = [(i, i + 1) for i in range(4)]
        g.observe_each(mjp.LocalEmissions(lambda x: dist.Normal(2.0 * (x[0] + x[1]), 2.0), pairs), counts)

    Chains are the agents of `mjp.InteractingParticles` without contacts, so that everything that is known of
    agents (`mjp.EachAgent`, `mjp.Exactly` and `mjp.Misclassified` by chain, totals) holds for chains.

    Args:
        transitions: (M, K, K), one matrix per chain with rows that sum to one; or (K, K) for all chains.
        states: labels of the states of a chain, default 0 … K-1.
        n: number of chains, where `transitions` is one matrix.

    Raises:
        ValueError: matrices that are not square, have negative entries or rows that do not sum to one;
            labels that do not match; no `n` for one matrix, or another one than there are matrices.
    """

    def __init__(self, transitions: Any, states: Sequence | None = None, *, n: int | None = None):
        check_count("n", n)
        matrices = as_numbers("transitions", transitions)
        shape = np.shape(matrices)
        if len(shape) not in (2, 3) or shape[-1] != shape[-2]:
            raise ValueError(f"transitions must have shape (M, K, K) or (K, K), got {shape}")
        if len(shape) == 2 and n is None:
            raise ValueError("n must be the number of chains where transitions is one matrix, got None")
        if len(shape) == 3 and n not in (None, shape[0]):
            raise ValueError(f"n must be the number of matrices in transitions, {shape[0]}, or None, got {n}")
        check_stochastic("transitions", matrices)
        k, n = shape[-1], int(n or shape[0])
        entries = {_entry(a, b): matrices[..., a, b] for a in range(k) for b in range(k)}
        labels = range(k) if states is None else states
        if len(labels) != k:
            raise ValueError(f"states must name the {k} states of transitions, got {len(labels)} labels")
        super().__init__(nx.empty_graph(n), _step, labels, parameters=entries)

    @property
    def transitions(self) -> Array:
        """(M, K, K)."""
        rows = range(self.n_states)
        table = [[jnp.broadcast_to(self.parameters[_entry(a, b)], (self.n,)) for b in rows] for a in rows]
        return jnp.moveaxis(jnp.asarray(table), -1, 0)


def _entry(a: int, b: int) -> str:
    """Name of the parameter that is an entry of the chains' matrices."""
    return f"{a} to {b}"


def _step(neighbours: Mapping, at: Mapping) -> Array:
    """The matrix of one chain; chains have no neighbours."""
    rows = range(len(neighbours))
    return jnp.stack([jnp.stack([jnp.asarray(at[_entry(a, b)]) for b in rows]) for a in rows])
