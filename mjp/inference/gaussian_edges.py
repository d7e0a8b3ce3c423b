"""What happens inside the edges of a Gaussian graph: steps composed, pulled back, and weighted.

Steps come first, edges last, see `mjp._small_matrices`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp._small_matrices import product, semidefinite_cholesky, times, transpose
from mjp.inference.gaussian_graph import Kind
from mjp.inference.potentials.canonical import Gain
from mjp.inference.potentials.rows import Potential, RowGain
from mjp.inference.rules.gaussian import LinearSteps
from mjp.inference.rules.registry import rule_of
from mjp.processes.gaussian import Interval

type AnyGain = Gain | RowGain

_CACHED = 2**15  # steps of all edges


def compose(steps: LinearSteps) -> LinearSteps:
    """The auxiliary's steps (n, ..., E) along each edge as one linear-Gaussian step (..., E)."""
    first = jax.tree.map(lambda leaf: leaf[0], steps)
    if steps.matrix.shape[0] == 1:
        return first

    def follow(carry: tuple[Array, ...], step: LinearSteps) -> tuple[tuple[Array, ...], None]:
        matrix, offset, covariance = carry
        spread = product(step.matrix, covariance)
        covariance = product(spread, transpose(step.matrix)) + product(step.factor, transpose(step.factor))
        return (
            product(step.matrix, matrix),
            times(step.matrix, offset) + step.offset,
            covariance,
        ), None

    rest = jax.tree.map(lambda leaf: leaf[1:], steps)
    start = (first.matrix, first.offset, product(first.factor, transpose(first.factor)))
    (matrix, offset, covariance), _ = lax.scan(follow, start, rest)
    return LinearSteps(matrix, offset, semidefinite_cholesky(covariance))


class Messages(eqx.Module):
    """What the guide of a kind of edges needs, all (n, ..., E).

    Attributes:
        steps: the auxiliary's steps.
        ahead: potential after each step; its constant is not used.
        gains: gain of each of the auxiliary's steps towards it.
        true_gains: gain of the true steps, where their noise is known beforehand and is not the
            auxiliary's; else None.
    """

    steps: LinearSteps
    ahead: Potential
    gains: AnyGain
    true_gains: AnyGain | None

    def towards(self, kind: Kind) -> "AnyGain | Potential":
        """What steers the guided steps: their gain if it is known beforehand, else the potential ahead."""
        if self.true_gains is not None:
            return self.true_gains
        return self.gains if kind.process.constant_noise else self.ahead


def messages(steps: LinearSteps, child: Potential, factor: Array | None) -> Messages:
    """Pull the potentials at the children (E,) back through the steps of their edges.

    Args:
        factor: noise factors (n, d, r, E) of the true steps, or None.
    """

    def back(ahead: Any, step: LinearSteps) -> tuple[Potential, tuple[Potential, AnyGain]]:
        gain = ahead.gain(step.factor)
        return ahead.pull_back(gain, step.matrix, step.offset), (ahead, gain)

    if steps.matrix.shape[0] == 1:
        ahead, gains = jax.tree.map(lambda leaf: leaf[None], (child, child.gain(steps.factor[0])))
    else:
        _, (ahead, gains) = lax.scan(back, child, steps, reverse=True)
    true = None if factor is None else _over_steps(lambda ahead, own: ahead.gain(own), ahead, factor)
    return Messages(steps, ahead, gains, true)


def guided_step(kind: Kind, x: Array, at: Interval, towards: Any, z: Array) -> Array:
    """Guided steps from x (d, ...) with innovations z (r, ...), steered as `Messages.towards` says.

    Where the noise depends on the state, the gain is that of the true step, not of the auxiliary's.
    """
    if kind.process.mixture:
        return rule_of(kind.process).guided_step(kind.process, x, at, towards, z)
    mean, factor = kind.step(x, at)
    gain = towards if isinstance(towards, Gain | RowGain) else towards.gain(factor)
    return gain.move(mean, z)


def log_weights(kind: Kind, message: Messages, states: Array) -> Array:
    r"""$\log (\kappa g)(x) - \log (\tilde\kappa g)(x)$ of every step, (n, E), at its start x (n, d, E).

    Written as a difference of equal terms, so that it is zero, and not only small, where the true step
    and the auxiliary's agree, whatever the size of the potential.
    """

    def mixed(x: Array, at: Interval, message: Messages) -> Array:
        unscaled: Any = message.ahead.with_constant(jnp.zeros_like(message.ahead.constant))
        auxiliary = times(message.steps.matrix, x) + message.steps.offset
        true = rule_of(kind.process).log_pulled(kind.process, x, at, message.ahead)
        return true - unscaled.log_pulled(message.gains, auxiliary)

    def one(x: Array, at: Interval, message: Messages) -> Array:
        mean, factor = kind.step(x, at)
        auxiliary = times(message.steps.matrix, x) + message.steps.offset
        ahead: Any = message.ahead
        towards = message.towards(kind)
        true = towards if isinstance(towards, Gain | RowGain) else ahead.gain(factor)
        return ahead.log_ratio(true, mean, message.gains, auxiliary)

    return _over_steps(mixed if kind.process.mixture else one, states, kind.intervals(), message)


def _over_steps(function: Callable[..., Any], *inputs: Any) -> Any:
    """Apply a function to every step (n, ..., E): at once, or in turn where they would leave the cache."""
    n, n_edges = jax.tree.leaves(inputs)[0].shape[0], jax.tree.leaves(inputs)[0].shape[-1]
    if n == 1 or n * n_edges < _CACHED:
        return jax.vmap(function)(*inputs)
    return lax.map(lambda own: function(*own), inputs)
