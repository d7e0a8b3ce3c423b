"""Conservation laws of reactions: what no reaction changes."""

from fractions import Fraction
from math import gcd, lcm

import numpy as np


def conservation_laws(change: np.ndarray) -> np.ndarray:
    """An integer basis of the weights w with `change @ w == 0`.

    Laws with non-negative weights and few species are preferred (Farkas' algorithm; Schuster and Höfer
    1991, J. Chem. Soc. Faraday Trans. 87:2561); weights of both signs only complete the basis.

    Args:
        change: (L, d) integers, what each reaction adds to each species.

    Returns:
        (m, d) integers, m = d - rank(change); weights of one law have no common divisor.
    """
    d = change.shape[1]
    basis: list[np.ndarray] = []
    candidates = sorted(_non_negative(change), key=lambda w: (np.count_nonzero(w), int(w.sum())))
    for law in [*candidates, *_null_space(change)]:
        if len(_echelon(np.array([*basis, law]))[1]) > len(basis):
            basis.append(law)
    return np.array(basis, dtype=np.int64).reshape(len(basis), d)


def _non_negative(change: np.ndarray, most: int = 2000) -> list[np.ndarray]:
    """The non-negative laws of minimal support; none where there would be more than `most` on the way."""
    d = change.shape[1]
    # each row is a weight vector and what reactions that are still to be balanced do to it
    rows = [(np.eye(d, dtype=object)[i], change[:, i].astype(object)) for i in range(d)]
    for reaction in range(change.shape[0]):
        kept = [row for row in rows if row[1][reaction] == 0]
        up = [row for row in rows if row[1][reaction] > 0]
        down = [row for row in rows if row[1][reaction] < 0]
        if len(up) * len(down) + len(kept) > most:
            return []
        for w, a in up:
            for v, b in down:
                weights = w * -b[reaction] + v * a[reaction]
                divisor = gcd(*weights.tolist())
                kept.append((weights // divisor, (a * -b[reaction] + b * a[reaction]) // divisor))
        rows = _minimal(kept)
    return [weights for weights, _ in rows]


def _minimal(rows: list[tuple]) -> list[tuple]:
    """Rows whose support contains that of no other row."""
    kept: list[tuple] = []
    supports: list[frozenset] = []
    for row in sorted(rows, key=lambda row: np.count_nonzero(row[0])):
        support = frozenset(np.flatnonzero(row[0]).tolist())
        if not any(other <= support for other in supports):
            kept.append(row)
            supports.append(support)
    return kept


def _null_space(change: np.ndarray) -> list[np.ndarray]:
    rows, pivots = _echelon(change)
    found = []
    for free in [j for j in range(change.shape[1]) if j not in pivots]:
        weights = [Fraction(0)] * change.shape[1]
        weights[free] = Fraction(1)
        for row, pivot in zip(rows, pivots, strict=False):
            weights[pivot] = -row[free]
        scale = lcm(*(w.denominator for w in weights))
        found.append(np.array([int(w * scale) for w in weights], dtype=object))
    return found


def _echelon(matrix: np.ndarray) -> tuple[list[list[Fraction]], list[int]]:
    """Reduced row echelon form in exact arithmetic, and the columns of its pivots."""
    rows = [[Fraction(int(v)) for v in row] for row in matrix]
    pivots: list[int] = []
    for column in range(matrix.shape[1]):
        top = len(pivots)
        pivot = next((i for i in range(top, len(rows)) if rows[i][column]), None)
        if pivot is None:
            continue
        rows[top], rows[pivot] = rows[pivot], rows[top]
        scale = rows[top][column]
        rows[top] = [v / scale for v in rows[top]]
        for i, row in enumerate(rows):
            if i != top and row[column]:
                rows[i] = [a - row[column] * b for a, b in zip(row, rows[top], strict=True)]
        pivots.append(column)
    return rows, pivots
