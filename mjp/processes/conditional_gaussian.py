"""Vectors whose law is normal given the states of one or several parents, of any family."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import as_numbers, check_covariance
from mjp.processes.finite_states import FiniteStateProcess
from mjp.processes.gamma_process import GammaProcess
from mjp.processes.gaussian import GaussianProcess
from mjp.processes.interacting_particles import InteractingParticles
from mjp.processes.process import Process
from mjp.processes.reaction_network import ReactionNetwork


class ConditionalGaussian(Process):
    r"""A vector with the law $N(\mu(x_1, \dots, x_p), Q(x_1, \dots, x_p))$ given its parents; an edge is one
    step.

    Parents may be vectors (d,), states of finitely many, of which functions see the position, and the counts
    of reaction networks that reach few states, which functions see by name.

        drift = jnp.array([-0.1, 0.3])
        level = mjp.ConditionalGaussian(lambda x, regime: 0.9 * x + drift[regime], jnp.eye(1))
        g.edge(("x0", "regime0"), "x1", level)

    Args:
        mean: function of the parents' states, in the order in which the edge names them, to (d,), or to one
            number where d is 1.
        covariance: (d, d), positive definite where the child is seen without error; or a function like
            `mean`.
        dim: d; needed where the covariance is a function.

    Raises:
        ValueError: a covariance that is none. TypeError: arguments of the wrong kind, `dim` missing.
    """

    mean: Callable = eqx.field(static=True)
    noise: Any
    noise_function: Callable | None = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, mean: Callable, covariance: Any, *, dim: int | None = None):
        if not callable(mean):
            raise TypeError(f"mean must be a function of the parents' states, got {type(mean).__name__}")
        self.mean = mean
        if callable(covariance):
            if dim is None:
                raise TypeError("dim must be given where covariance is a function of the parents' states")
            self.noise, self.noise_function, self.dim = None, covariance, dim
        else:
            matrix: Any = as_numbers("covariance", covariance)
            matrix = matrix if np.ndim(matrix) else jnp.reshape(matrix, (1, 1))
            check_covariance("covariance", matrix)
            if dim is not None and dim != matrix.shape[0]:
                raise ValueError(f"dim must be that of the covariance, {matrix.shape[0]}, got {dim}")
            self.noise, self.noise_function, self.dim = matrix, None, matrix.shape[0]

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))

    def moments(self, states: Sequence[Any]) -> tuple[Array, Array]:
        """Mean (d,) and covariance (d, d) given the states of the parents.

        Raises:
            ValueError: the functions return other shapes.
        """
        dtype, dim = jnp.result_type(float), self.dim
        mean = jnp.asarray(self.mean(*states), dtype)
        given = self.noise if self.noise_function is None else self.noise_function(*states)
        noise = jnp.asarray(given, dtype)
        for name, found, shape in (("mean", mean, (dim,)), ("covariance", noise, (dim, dim))):
            if found.shape != shape and not (dim == 1 and found.shape == ()):
                raise ValueError(f"{name} must return shape {shape}, got {found.shape}")
        return mean.reshape(dim), noise.reshape(dim, dim)

    def through(self, reading: Callable[[Callable], Callable]) -> "ConditionalGaussian":
        """The process whose functions read the states of the parents as `reading` makes them."""
        function = self.noise_function
        noise = self.noise if function is None else reading(function)
        return ConditionalGaussian(reading(self.mean), noise, dim=self.dim)

    def check_parents(self, edge: str, parents: Sequence[tuple[Hashable, Process | None]]) -> None:
        check_state_or_vector(self, edge, parents)


def check_state_or_vector(
    process: Process, edge: str, parents: Sequence[tuple[Hashable, Process | None]]
) -> None:
    """Raise TypeError for a parent that is neither a vector nor one of finitely many states."""
    for name, into in parents:
        known = FiniteStateProcess | GaussianProcess | GammaProcess | ConditionalGaussian
        if into is None or isinstance(into, known | ReactionNetwork | InteractingParticles):
            continue
        raise TypeError(
            f"parent: {name!r} of {edge} is a state of {type(into).__name__}, where "
            f"{type(process).__name__} takes vectors, counts, agents and states of finitely many"
        )
