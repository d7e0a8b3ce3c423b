"""Switching diffusions that are linear given their regimes, and their law by enumeration of these."""

from itertools import product

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import stats
from scipy.linalg import expm

import mjp

PULL, LEVEL, SPREAD = np.array([0.5, 2.0]), np.array([-0.3, 0.6]), np.array([0.4, 1.1])
TIMES = np.array([0.0, 0.7, 1.0, 2.2])
SEEN = np.array([np.nan, 0.4, np.nan, 1.3])


GENERATOR, FIRST = np.array([[-0.9, 0.9], [1.4, -1.4]]), np.array([1.4, 0.9]) / 2.3


def reverting(dim=1, pull=PULL, level=LEVEL, spread=SPREAD, **options):
    """Ornstein-Uhlenbeck regimes; in two coordinates these pull each other, with correlated noise."""
    mix = jnp.eye(dim) + 0.3 * (jnp.ones((dim, dim)) - jnp.eye(dim))

    def regime(p, m, s):
        return lambda t, x: -p * mix @ (x - m), lambda t, x: s * mix

    regimes = {
        name: regime(*parts)
        for name, parts in zip(("low", "high"), zip(pull, level, spread, strict=True), strict=True)
    }
    rates = {("low", "high"): 0.9, ("high", "low"): 1.4}
    return mjp.SwitchingDiffusion(regimes, rates, dim, **options)


def joint_law(process, regimes, steps, times):
    """Mean and covariance of the states after all Euler steps, given the regimes; zero at first."""
    d, n = process.dim, len(regimes)
    lengths = np.repeat(np.diff(times) / steps, steps)
    mean, linear = np.zeros((n + 1) * d), np.zeros(((n + 1) * d, n * d))
    for j, k in enumerate(regimes):
        here, after = slice(j * d, (j + 1) * d), slice((j + 1) * d, (j + 2) * d)
        drift = lambda x, k=k: np.asarray(process.diffusions[k].drift(0.0, jnp.asarray(x), {}))
        offset = drift(np.zeros(d))
        matrix = np.eye(d) + np.stack([drift(e) - offset for e in np.eye(d)], -1) * lengths[j]
        sigma = np.asarray(process.diffusions[k].dispersion(0.0, jnp.zeros(d), {}))
        mean[after] = matrix @ mean[here] + offset * lengths[j]
        linear[after] = matrix @ linear[here]
        linear[after, here] += sigma * np.sqrt(lengths[j])
    return mean[d:], (linear @ linear.T)[d:, d:]


def regime_paths(process, steps, times, generator, first):
    """All paths of regimes with their probabilities; each step has the regime at its middle."""
    lengths = np.repeat(np.diff(times) / steps, steps)
    middle = np.concatenate([[0.0], np.cumsum(lengths) - lengths / 2])
    moves = [expm(generator * gap) for gap in np.diff(middle)]
    for path in product(range(2), repeat=len(lengths)):
        p = first @ moves[0][:, path[0]]
        for move, a, b in zip(moves[1:], path, path[1:], strict=False):
            p = p * move[a, b]
        yield path, p


def enumerated(process, steps, looks, generator=None, first=None, times=TIMES):
    """Log-evidence, and probabilities of the second regime at every step, given linear observations.

    Args:
        looks: (step's number, matrix, value, covariance) of each observation; step 1 is the first one's end.
    """
    generator = GENERATOR if generator is None else generator
    first = FIRST if first is None else first
    d, total, high = process.dim, 0.0, 0.0
    for path, p in regime_paths(process, steps, times, generator, first):
        mean, covariance = joint_law(process, path, steps, times)
        rows = np.zeros((sum(len(look[2]) for look in looks), len(mean)))
        values, noise, at = [], np.zeros((len(rows), len(rows))), 0
        for step, matrix, value, spread in looks:
            rows[at : at + len(value), (step - 1) * d : step * d] = matrix
            noise[at : at + len(value), at : at + len(value)] = spread
            values, at = [*values, *value], at + len(value)
        p = p * stats.multivariate_normal.pdf(values, rows @ mean, rows @ covariance @ rows.T + noise)
        total, high = total + p, high + p * np.asarray(path)
    return np.log(total), high / total


def noisy(process, steps=2, times=TIMES, values=SEEN):
    graph = mjp.chain(process, times, initial=jnp.zeros(process.dim), steps=steps)
    return graph.observe_each(lambda x: dist.Normal(x[0], 0.3), values)
