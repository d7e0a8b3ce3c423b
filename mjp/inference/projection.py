r"""Guides of networks of finite states: potentials of single nodes, where parents share a child.

The pullback of a potential through a table with several parents is a function of all of them. It is replaced
by a product, by marginalising over reference laws of the parents (van der Meulen & Schauer, arXiv 2010.03509,
backward marginalisation): with $m_p$ the pullback averaged over all parents but p, and s over all of them,
$\prod_p g_p = s \prod_p m_p / s$. The ratio of the two is the weight of a draw, so that the estimate of the
evidence is unbiased for any reference laws.

As elimination, the sweeps are unrolled when they are compiled.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp.inference.path_sweeps import draw
from mjp.inference.rules.state_observations import UNKNOWN
from mjp.inference.safe_logs import never_if_nan
from mjp.inference.state_tables import StateTables, Structure

REFERENCES = ("prior", "uniform")


class Projection(eqx.Module):
    """A guide of a network, in the order of its nodes.

    Attributes:
        potentials: (K,) each, g of a node.
        pulled: (K1, ..., Kp) each: g of a node pulled back to all its parents; () for roots.
        sent: (K1,), ..., (Kp,) each: the factors that stand for it.
        log_evidence: ().
    """

    potentials: tuple[Array, ...]
    pulled: tuple[Array, ...]
    sent: tuple[tuple[Array, ...], ...]
    log_evidence: Array


def is_exact(structure: Structure) -> bool:
    """Whether no pullback has to be projected."""
    several = (sum(structure.known[p] == UNKNOWN for p in parents) > 1 for parents in structure.parents)
    return not any(many and matters for many, matters in zip(several, structure.matters, strict=True))


def reference_laws(tables: StateTables, reference: str) -> tuple[Array, ...]:
    """A law (K,) for every node: "uniform", or "prior": forward, as if parents were independent."""
    structure = tables.structure
    laws: dict[int, Array] = {}
    for node in structure.order:
        size, state = structure.sizes[node], structure.known[node]
        if state != UNKNOWN:
            laws[node] = jnp.zeros(size).at[state].set(1.0)
        elif reference == "uniform":
            laws[node] = jnp.full(size, 1.0 / size)
        else:
            law = tables.laws[node]
            for parent in structure.parents[node]:
                law = jnp.tensordot(laws[parent], law, axes=1)
            # errors of rounding multiply where parents meet, so that they would double with every generation
            laws[node] = law / jnp.sum(law)
    return tuple(laws[node] for node in range(structure.n))


@partial(jax.jit, static_argnames="reference")
def project(tables: StateTables, reference: str) -> Projection:
    """The guide with these reference laws."""
    structure = tables.structure
    references = reference_laws(tables, reference)
    potentials = [_likelihood(tables, node) for node in range(structure.n)]
    pulled = [jnp.ones(())] * structure.n
    sent: list[tuple[Array, ...]] = [()] * structure.n
    total = jnp.sum(tables.log_scales)
    for node in reversed(structure.order):
        size = jnp.sum(potentials[node])
        size = jnp.where(size > 0, size, 1.0)
        potentials[node] = potentials[node] / size
        total = total + jnp.log(size)
        pulled[node] = tables.laws[node] @ potentials[node]
        parents = structure.parents[node]
        if not parents:
            total = total + jnp.log(pulled[node])
            continue
        factors, scale = _factors(pulled[node], [references[parent] for parent in parents])
        total = total + jnp.log(scale)
        pulled[node], sent[node] = pulled[node] / scale, factors
        for parent, factor in zip(parents, factors, strict=True):
            potentials[parent] = potentials[parent] * factor
    return Projection(tuple(potentials), tuple(pulled), tuple(sent), total)


def _likelihood(tables: StateTables, node: int) -> Array:
    state = tables.structure.known[node]
    if state == UNKNOWN:
        return tables.likelihoods[node]
    return tables.likelihoods[node] * (jnp.arange(tables.structure.sizes[node]) == state)


def _factors(pulled: Array, references: list[Array]) -> tuple[tuple[Array, ...], Array]:
    """Factors m_p / s for each parent, and s; the pullback itself where there is one parent."""
    if len(references) == 1:
        scale = jnp.sum(pulled)
        scale = jnp.where(scale > 0, scale, 1.0)
        return (pulled / scale,), scale
    found = []
    for axis in range(len(references)):
        rest = jnp.moveaxis(pulled, axis, 0)
        for other in reversed([law for i, law in enumerate(references) if i != axis]):
            rest = rest @ other
        found.append(rest)
    scale = references[0] @ found[0]
    scale = jnp.where(scale > 0, scale, 1.0)
    return tuple(factor / scale for factor in found), scale


@jax.jit
def guided_states(tables: StateTables, guide: Projection, uniforms: Array) -> tuple[Array, Array]:
    """States of all nodes (n,) drawn with the guide, parents first, and the log-weight ()."""
    structure = tables.structure
    states: dict[int, Array] = {}
    log_weight = jnp.zeros(())
    for node in structure.order:
        above = tuple(states[parent] for parent in structure.parents[node])
        states[node] = draw(tables.laws[node][above] * guide.potentials[node], uniforms[node])
        if sum(structure.known[parent] == UNKNOWN for parent in structure.parents[node]) > 1:
            sent = (factor[state] for factor, state in zip(guide.sent[node], above, strict=True))
            log_weight = log_weight + jnp.log(guide.pulled[node][above]) - sum(map(jnp.log, sent))
    log_weight = never_if_nan(log_weight)
    return jnp.stack([states[node] for node in range(structure.n)]), log_weight
