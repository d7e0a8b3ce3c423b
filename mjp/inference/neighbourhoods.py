"""Neighbourhoods of chains that are observed together, and sums over the states of each."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._by_content import ByContent
from mjp.inference.local_emissions import LocalSeen


@dataclass(frozen=True, eq=False)
class Neighbourhoods(ByContent):
    """What surrounds each of N chains; static, compared by content.

    Attributes:
        chains: (N, D) the chain itself, then those around it; N for padding.
        scopes: for each batch of emissions (N, G) the scopes inside, beyond the last for padding.
        code: for each batch (N, G, K**D) the combination of states in a scope, for that in the neighbourhood.
    """

    chains: np.ndarray
    scopes: tuple[np.ndarray, ...]
    code: tuple[np.ndarray, ...]
    n_states: int

    @property
    def entries(self) -> int:
        """K**D, the number of terms of a sum."""
        return self.n_states ** self.chains.shape[1]


def neighbourhoods(seen: list[LocalSeen], n_chains: int, n_states: int, radius: int) -> Neighbourhoods:
    """Neighbourhoods that reach `radius` scopes beyond those that a chain is in.

    This is the localisation of the graph filter (Rimella & Whiteley 2022, J. Mach. Learn. Res. 23), with
    `radius` for its m.

    Args:
        n_chains: N, those of all series.
    """
    touching: list[list[tuple[int, int]]] = [[] for _ in range(n_chains)]
    for batch, emissions in enumerate(seen):
        for scope, members in enumerate(emissions.scopes.agents.tolist()):
            for chain in members:
                touching[chain].append((batch, scope))
    around, inside = [], []
    for chain in range(n_chains):
        members, scopes = [chain], dict.fromkeys(touching[chain])
        for step in range(radius + 1):
            if step:
                scopes = dict.fromkeys(pair for member in members for pair in touching[member])
            for batch, scope in scopes:
                own = seen[batch].scopes.agents[scope].tolist()
                members += [other for other in own if other not in members]
        around.append(members)
        inside.append(list(scopes))
    width = max(map(len, around))
    chains = np.full((n_chains, width), n_chains)
    for chain, members in enumerate(around):
        chains[chain, : len(members)] = members
    digits = np.indices((n_states,) * width).reshape(width, -1)
    tables, codes = [], []
    for batch, emissions in enumerate(seen):
        own = [[scope for kind, scope in scopes if kind == batch] for scopes in inside]
        table = np.full((n_chains, max(1, max(map(len, own)))), len(emissions.scopes.agents))
        code = np.zeros((*table.shape, digits.shape[1]), dtype=np.int32)
        for chain, scopes in enumerate(own):
            for i, scope in enumerate(scopes):
                members = emissions.scopes.agents[scope].tolist()
                places = [around[chain].index(member) for member in members]
                table[chain, i], code[chain, i] = scope, emissions.scopes.strides @ digits[places]
        tables.append(table)
        codes.append(code)
    return Neighbourhoods(chains, tuple(tables), tuple(codes), n_states)


def messages(near: Neighbourhoods, tables: list[Array], weights: Array) -> Array:
    """What the emissions around each chain say of its state, all other chains having the given weights.

    Args:
        tables: for each batch of emissions (R F + 1, K**s), log-likelihoods at one time.
        weights: (K, N) of the states of all chains.

    Returns:
        (K, N), up to a factor for each chain.
    """
    (k, n), width = weights.shape, near.chains.shape[1]
    logs = jnp.zeros((n, near.entries), weights.dtype)
    for table, scopes, code in zip(tables, near.scopes, near.code, strict=True):
        logs = logs + jnp.sum(table[scopes[..., None], code], axis=1)
    peak = jnp.max(logs, axis=1, keepdims=True)
    likelihood = jnp.exp(logs - jnp.where(jnp.isfinite(peak), peak, 0.0)).reshape(n, k, -1)
    # padding is a chain that is in its first state
    padded = jnp.concatenate([weights, jnp.zeros((k, 1)).at[0].set(1.0)], axis=1)
    joint = jnp.ones((n, 1), weights.dtype)
    for place in range(1, width):
        other = padded[:, near.chains[:, place]].T
        joint = (joint[:, :, None] * other[:, None, :]).reshape(n, -1)
    return jnp.einsum("nkr,nr->kn", likelihood, joint)
