"""Processes whose steps are Gaussian given the state at their start."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array

from mjp._signatures import required_arguments
from mjp.processes.affine import Dependence, dependence, worst
from mjp.processes.charts import Chart
from mjp.processes.process import CovariateRecord, Process


class Interval(NamedTuple):
    """Where a step is taken; all entries are scalars."""

    time: Any  # at the start of the step
    duration: Any
    covariates: Mapping[str, Any]


class GaussianProcess(Process):
    r"""A process with steps $x' = m(x) + G(x) z$, $z \sim N(0, I_r)$.

    Attributes:
        dim: number of coordinates of the state.
        noise_dim: r, number of innovations of one step.
        linear: whether m is affine in x and G does not depend on it, so that conditioning is exact.
        constant_noise: whether G does not depend on x.
        continuous: whether edges have a duration that is cut into steps; otherwise an edge is one step.
    """

    dim: eqx.AbstractVar[int]
    noise_dim: eqx.AbstractVar[int]
    linear: eqx.AbstractVar[bool]
    constant_noise: eqx.AbstractVar[bool]
    continuous: eqx.AbstractVar[bool]
    mixture: ClassVar[bool] = False  # whether steps are mixtures, whose moments `step` tells; see their rule

    @property
    def chart(self) -> Chart | None:
        """The chart in whose coordinates steps are taken, where states have bounds; else None."""
        return None

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))

    @abstractmethod
    def step(self, x: Array, at: Interval) -> tuple[Array, Array]:
        """Mean (dim,) and noise factor (dim, noise_dim) of a step from the state x (dim,)."""


def abstractly(function: Callable[[Mapping], Any]) -> Any:
    """Call `function(covariates)` where the covariates are not known yet; their values are one.

    A function that indexes by a covariate fails on a number that is not an integer, and is tried again.
    """
    try:
        return function(CovariateRecord(1.0))
    except TypeError:
        return function(CovariateRecord(1))


def check_drift(drift: Callable[[Any, Array, Mapping], Any], dim: int) -> None:
    """Refuse a drift of (t, x, covariates) that does not return (dim,), or one number where dim is 1.

    Raises:
        ValueError: another shape.
    """
    state, time = jax.ShapeDtypeStruct((dim,), jnp.result_type(float)), jnp.ones(())
    shape = abstractly(lambda c: jax.eval_shape(lambda x: jnp.asarray(drift(time, x, c)), state)).shape
    if shape != (dim,) and not (dim == 1 and shape == ()):
        raise ValueError(f"drift must return shape ({dim},), got {shape}")


def structure_of(step: Callable[[Array, Interval], tuple[Array, Array]], dim: int) -> tuple[bool, bool]:
    """Whether a step is linear-Gaussian, and whether its noise does not depend on the state."""
    state = jax.ShapeDtypeStruct((dim,), jnp.result_type(float))

    def analyse(covariates: Mapping) -> tuple[Any, Any]:
        at = Interval(jnp.ones(()), jnp.ones(()), covariates)
        return dependence(lambda x: step(x, at), state)

    mean, factor = abstractly(analyse)
    constant = worst(factor) == Dependence.NONE
    return constant and worst(mean) <= Dependence.AFFINE, constant


def with_covariates(name: str, function: Callable, arguments: int) -> Callable:
    """A user's function, called with `arguments` arguments and then a mapping of covariates if it takes one.

    Raises:
        TypeError: the function takes another number of arguments.
    """
    required = required_arguments(function)
    if required is None or required == arguments:
        return lambda *args: function(*args[:-1])
    if required == arguments + 1:
        return function
    raise TypeError(
        f"{name} must take {arguments} arguments, or {arguments + 1} with a mapping of covariates, "
        f"got a function of {required}"
    )
