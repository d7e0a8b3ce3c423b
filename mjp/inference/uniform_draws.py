"""Draws of finite states that are functions of uniform numbers."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtr

from mjp.inference.condition import Guided


class DrawnByUniforms(Guided):
    """A conditioned graph whose draws invert cumulative probabilities; subclasses state `_draw`."""

    def push(self, z: dict[str, Array]) -> tuple[Any, Array]:
        """The draw as a function of innovations: states by inverting cumulative probabilities."""
        return self._draw({name: ndtr(value) for name, value in z.items()})

    def sample(self, key: Array) -> tuple[Any, Array]:
        """A draw of all states and jump paths, and its log-weight."""
        shapes = self.innovations
        keys = jax.random.split(key, len(shapes))
        dtype = jnp.result_type(float)
        # the law of `push`, without the way through normal innovations and back
        return self._draw(
            {n: jax.random.uniform(k, s, dtype) for (n, s), k in zip(shapes.items(), keys, strict=True)}
        )

    def _draw(self, uniforms: dict[str, Array]) -> tuple[Any, Array]:
        """The trajectory and its log-weight, of uniform numbers in the shapes of `innovations`."""
        raise NotImplementedError
