"""The forms in which potentials of Gaussian graphs are passed backward."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp.inference.gaussian_sites import GaussianSite, Observed, node_potentials
from mjp.inference.potentials.canonical import Canonical
from mjp.inference.potentials.rows import Potential, RowPotential, Rows, followed_by_unit
from mjp.inference.potentials.square_root import SquareRootRows
from mjp.inference.potentials.stacked import StackedRows
from mjp.inference.segments import columns

CANONICAL, SQUARE_ROOT, STACKED = FORMS = ("canonical", "square root", "stacked")


def at_sites(form: str, sites: Sequence[Observed], anchors: Array) -> list[Potential]:
    """The potentials of each batch of observations, in a form, built at the anchors of all nodes (n, d)."""
    singular = any(observed.site.noiseless for observed in sites)
    return [_of_site(form, observed, anchors[observed.nodes], singular) for observed in sites]


def at_nodes(
    form: str, sites: Sequence[Observed], own: Sequence[Potential], anchors: Array, dtype: Any
) -> Potential:
    """Potentials (n,) of all observations together at each node, in a form; `own` are those of the sites."""
    n, dim = anchors.shape
    if form == CANONICAL:
        return node_potentials(list(sites), anchors, n, dtype)
    singular = any(observed.site.noiseless for observed in sites)
    total = RowPotential(_unit_rows(form, (n,), dim, dtype, singular), Canonical.unit((n,), dim, dtype))
    for observed, potential in zip(sites, own, strict=True):
        assert isinstance(potential, RowPotential)
        nodes = observed.nodes
        potential = jax.tree.map(lambda leaf: leaf.astype(dtype), potential)
        count = _occurrences(nodes)
        for turn in range(int(count.max(initial=-1)) + 1):  # a node may have several of a batch
            chosen = np.flatnonzero(count == turn)
            at = np.full(n, len(nodes))
            at[nodes[chosen]] = chosen
            total = total.fuse(columns(followed_by_unit(potential), at))
    return total


def _of_site(form: str, observed: Observed, anchors: Array, singular: bool) -> Potential:
    site, m = observed.site, len(anchors)
    if form == CANONICAL:
        return site.potential(anchors)
    if not isinstance(site, GaussianSite):
        rest = site.potential(anchors)
        return RowPotential(_unit_rows(form, (m,), len(rest.linear), rest.linear.dtype, singular), rest)
    if form == SQUARE_ROOT:
        matrix, value, constant = site.whitened(anchors)
        factor = None
    else:
        matrix, value, factor, constant = site.stacked(anchors)
    spread = lambda leaf: jnp.broadcast_to(leaf, (*leaf.shape[:-1], m))
    rows: Rows = (
        SquareRootRows(spread(matrix), spread(value))
        if factor is None
        else StackedRows(spread(matrix), spread(factor), spread(value), singular)
    )
    rest = Canonical.unit((m,), anchors.shape[-1], value.dtype).with_constant(spread(constant))
    return RowPotential(rows, rest)


def _unit_rows(form: str, shape: tuple[int, ...], dim: int, dtype: Any, singular: bool) -> Rows:
    if form == SQUARE_ROOT:
        return SquareRootRows.unit(shape, dim, dtype)
    return StackedRows.unit(shape, dim, dtype, singular)


def _occurrences(nodes: np.ndarray) -> np.ndarray:
    """How many of the entries before it are equal, for every entry."""
    order = np.argsort(nodes, kind="stable")
    first = np.searchsorted(nodes[order], nodes[order], side="left")
    count = np.empty(len(nodes), dtype=int)
    count[order] = np.arange(len(nodes)) - first
    return count
