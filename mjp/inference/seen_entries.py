"""Log-densities of values of which entries may be missing (NaN)."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular


def independent(law: Any) -> Any:
    """The law without declarations that its axes belong to one event; its log-densities are summed anyway."""
    while isinstance(law, dist.Independent):
        law = law.base_dist
    return law


def log_density_where_seen(law: Any, value: Array) -> Array:
    """Log-density () of a value, of which NaN entries are missing: that of the others.

    Entries of univariate laws are independent, and those of a normal law are integrated out. A value of
    another multivariate law that is partly missing has the density NaN; see `check_whole`.
    """
    law, seen = independent(law), ~jnp.isnan(value)
    if isinstance(law, dist.MultivariateNormal):
        return _normal_where_seen(law, value, seen)
    whole, some = seen, seen
    if law.event_shape:
        event = tuple(range(-len(law.event_shape), 0))
        whole, some = jnp.all(seen, axis=event), jnp.any(seen, axis=event)
    number = value.astype(int) if law.is_discrete else value
    number = jnp.where(seen, number, _inside(law, number))
    density = law.log_prob(number)
    with suppress(TypeError, NotImplementedError):  # of a law that does not say
        density = jnp.where(law.support(number), density, -jnp.inf)
    return jnp.sum(jnp.where(whole, density, jnp.where(some, jnp.nan, 0.0)))


def partly_missing(values: np.ndarray) -> np.ndarray:
    """Which values (n, ...) miss some entries and have others, (n,)."""
    if values.dtype.kind != "f":
        return np.zeros(len(values), dtype=bool)
    gone = np.isnan(values.reshape(len(values), -1))
    return gone.any(axis=1) & ~gone.all(axis=1)


def check_whole(law: Any, values: Any, where: Callable[[int], str]) -> None:
    """Raise ValueError for a value that is partly missing and whose law does not say what is left.

    Args:
        values: (n, ...), known before compilation. where: words for the place of each of them.
    """
    law = independent(law)
    if not law.event_shape or isinstance(law, dist.MultivariateNormal):
        return
    array = np.asarray(values)
    for i in np.flatnonzero(partly_missing(array)).tolist():
        gone = np.isnan(array[i].reshape(-1, int(np.prod(law.event_shape))))
        if np.any(gone.any(axis=1) & ~gone.all(axis=1)):
            raise ValueError(
                f"values: {array[i].tolist()} at {where(i)} is partly missing, where {type(law).__name__} "
                "has no law of a part; give all of it or NaN, or independent laws or a MultivariateNormal"
            )


def _normal_where_seen(law: Any, value: Array, seen: Array) -> Array:
    """The marginal density of the entries (..., k) of a normal law that were seen."""
    both = seen[..., :, None] & seen[..., None, :]
    covariance = jnp.where(both, law.covariance_matrix, jnp.eye(value.shape[-1], dtype=value.dtype))
    lower = jnp.linalg.cholesky(covariance)
    residual = jnp.where(seen, value - law.loc, 0.0)
    white = solve_triangular(lower, residual[..., None], lower=True)[..., 0]
    scale = jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1))
    return jnp.sum(-0.5 * white**2 - scale - 0.5 * jnp.log(2 * jnp.pi) * seen)


def _inside(law: Any, like: Array) -> Array:
    """A value in the support of a law, for the place of a missing one."""
    return jnp.broadcast_to(law.support.feasible_like(like), like.shape)
