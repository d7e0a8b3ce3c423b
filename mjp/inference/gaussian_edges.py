"""What happens inside the edges of a Gaussian graph: steps composed, pulled back, and weighted."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from mjp._small_matrices import dot, product, semidefinite_cholesky, times, transpose
from mjp.inference.gaussian_graph import Kind
from mjp.inference.potentials.canonical import Canonical, Gain, gain_of, pull_back
from mjp.inference.rules.gaussian import LinearSteps


def compose(steps: LinearSteps) -> LinearSteps:
    """The auxiliary's steps (E, n, ...) along each edge as one linear-Gaussian step (E, ...)."""
    n = steps.matrix.shape[1]
    if n == 1:
        return jax.tree.map(lambda leaf: leaf[:, 0], steps)

    def follow(carry: tuple[Array, ...], step: LinearSteps) -> tuple[tuple[Array, ...], None]:
        matrix, offset, covariance = carry
        spread = product(step.matrix, covariance)
        covariance = product(spread, transpose(step.matrix)) + product(step.factor, transpose(step.factor))
        return (
            product(step.matrix, matrix),
            times(step.matrix, offset) + step.offset,
            covariance,
        ), None

    by_step = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
    first = jax.tree.map(lambda leaf: leaf[0], by_step)
    rest = jax.tree.map(lambda leaf: leaf[1:], by_step)
    start = (first.matrix, first.offset, product(first.factor, transpose(first.factor)))
    (matrix, offset, covariance), _ = lax.scan(follow, start, rest)
    return LinearSteps(matrix, offset, semidefinite_cholesky(covariance))


class Messages(eqx.Module):
    """What the guide of a kind of edges needs, all (E, n, ...).

    Attributes:
        steps: the auxiliary's steps.
        ahead: potential after each step; its constant is not used.
        gains: gain of each of the auxiliary's steps towards it.
        true_gains: gain of the true steps, where their noise is known beforehand and is not the
            auxiliary's; else None.
    """

    steps: LinearSteps
    ahead: Canonical
    gains: Gain
    true_gains: Gain | None


def messages(steps: LinearSteps, child: Canonical, factor: Array | None) -> Messages:
    """Pull the potentials at the children (E,) back through the steps of their edges.

    Args:
        factor: noise factors (E, n, d, r) of the true steps, or None.
    """

    def back(ahead: Canonical, step: LinearSteps) -> tuple[Canonical, tuple[Canonical, Gain]]:
        gain = gain_of(ahead, step.factor)
        return pull_back(ahead, gain, step.matrix, step.offset), (ahead, gain)

    if steps.matrix.shape[1] == 1:
        gain = gain_of(child, steps.factor[:, 0])
        ahead, gains = jax.tree.map(lambda leaf: leaf[:, None], (child, gain))
        return Messages(steps, ahead, gains, None if factor is None else gain_of(ahead, factor))
    by_step = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), steps)
    _, found = lax.scan(back, child, by_step, reverse=True)
    ahead, gains = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), found)
    return Messages(steps, ahead, gains, None if factor is None else gain_of(ahead, factor))


def guided_step(kind: Kind, x: Array, at: object, message: Messages, z: Array) -> Array:
    """One guided step from x (d,), with the message and innovations z (r,) of that step.

    Where the noise depends on the state, the gain is that of the true step, not of the auxiliary's.
    """
    mean, factor = kind.process.step(x, at)  # type: ignore[arg-type]
    gain = _true_gain(kind, message, factor)
    return mean + times(gain.loading, gain.steering(mean) + z)


def _true_gain(kind: Kind, message: Messages, factor: Array) -> Gain:
    if message.true_gains is not None:
        return message.true_gains
    return message.gains if kind.process.constant_noise else gain_of(message.ahead, factor)


def log_weights(kind: Kind, message: Messages, states: Array) -> Array:
    r"""$\log (\kappa g)(x) - \log (\tilde\kappa g)(x)$ of every step, (E, n), at its start x (E, n, d).

    Written as a difference of equal terms, so that it is zero, and not only small, where the true step
    and the auxiliary's agree, whatever the size of the potential.
    """
    mean, factor = kind.steps(states)
    auxiliary = times(message.steps.matrix, states) + message.steps.offset
    ahead, gain = message.ahead, message.gains
    error = mean - auxiliary
    weight = dot(error, ahead.linear - 0.5 * times(ahead.precision, mean + auxiliary))
    steered = gain.steering(auxiliary)
    true = _true_gain(kind, message, factor)
    if true is gain:
        change = -times(gain.response, error)
        return weight + 0.5 * dot(change, 2 * steered + change)
    steering = true.steering(mean)
    weight = weight + 0.5 * dot(steering, steering) - 0.5 * dot(steered, steered)
    return weight + gain.log_determinant - true.log_determinant
