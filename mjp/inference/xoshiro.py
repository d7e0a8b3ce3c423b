"""A generator of random bits that keeps a state, for loops that draw one number after the other."""

import jax.numpy as jnp
from jax import Array

from mjp.inference.threefry import threefry

type State = tuple[Array, Array, Array, Array]


def seeded(key: tuple[Array, Array]) -> State:
    """States of generators with these keys, two words uint32 of any shape."""
    zero = jnp.zeros_like(key[0])
    return (*threefry(key, zero, zero), *threefry(key, zero, zero + jnp.uint32(1)))


def advance(state: State) -> tuple[Array, State]:
    """32 random bits uint32, and the state after them.

    xoshiro128++ (Blackman & Vigna 2021, ACM Trans. Math. Softw. 47:36), of period 2^128 - 1: a fifth of the
    work of `mjp.inference.threefry`, which can do without a state.
    """
    a, b, c, d = state
    bits = _rotated(a + d, 7) + a
    shifted = b << 9
    c, d = c ^ a, d ^ b
    b, a = b ^ c, a ^ d
    return bits, (a, b, c ^ shifted, _rotated(d, 11))


def _rotated(word: Array, places: int) -> Array:
    return (word << places) | (word >> (32 - places))
