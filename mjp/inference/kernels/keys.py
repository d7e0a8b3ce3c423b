"""The random key of a chain."""

import jax.numpy as jnp
from jax import Array


def check_one_key(kernel: object, key: Array) -> None:
    """Raise ValueError for a batch of keys, which NumPyro's vectorized chains pass to kernels."""
    if key.ndim and not (key.dtype == jnp.uint32 and key.ndim == 1):
        raise ValueError(
            f"{type(kernel).__name__} takes one random key; run chains with chain_method='parallel', "
            "'sequential' or jax.vmap"
        )
