"""A counter-based generator of random bits that fuses into the loops of simulators."""

import jax.numpy as jnp
import numpy as np
from jax import Array

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: tuple[Array, Array], first: Array, second: Array) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds: 64 random bits for each key and counter, all uint32 of one shape.

    The same function as `jax.random`'s default generator (Salmon et al. 2011, Parallel random numbers: as
    easy as 1, 2, 3), but elementwise and unrolled, so that XLA fuses it with the code that uses the bits.
    """
    schedule = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x, y = first + schedule[0], second + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + schedule[(group + 1) % 3]
        y = y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def exponential(bits: Array) -> Array:
    """A standard exponential from 32 bits, at most 22.2; in float32, whose rounding no law notices."""
    uniform = (bits >> 1).astype(jnp.int32).astype(jnp.float32) * np.float32(2**-31) + np.float32(2**-32)
    return -jnp.log(uniform)


def uniform(bits: Array) -> Array:
    """A uniform number from 32 bits, a multiple of 2^-23 in [0, 1): a product with s stays below s."""
    return (bits >> 9).astype(jnp.int32).astype(jnp.float32) * np.float32(2**-23)
