"""Variance of the log-evidence on the same budget of time: guided draws against a bootstrap filter.

A FitzHugh–Nagumo neuron with five steps between 100 observations of its voltage (as `neuron.py`), at known
parameters, and another one with a quarter of the noise of observation. The bootstrap filter is written here
in a few lines of JAX: it moves particles by the model and resamples systematically at every observation.
Budgets are met only roughly, so that the ratio is that of variance times the seconds taken.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from common import emit
from jax import Array, lax
from jax.scipy.special import logsumexp
from neuron import SPACING, TRUTH, data

import mjp

STEPS = 5
FIRST, SPREAD = np.array([-1.0, -0.5]), 0.5


def drift(x: Array) -> Array:
    v, w = x
    return jnp.array([v - v**3 / 3 - w + TRUTH["I"], TRUTH["a"] * (v + 0.7 - 0.8 * w)])


def guided(voltage: np.ndarray, noise: float) -> Callable[[Array, int], Array]:
    """Log-evidence estimated by independent guided draws."""
    process = mjp.Diffusion(lambda t, x: drift(x), TRUTH["sigma"] * jnp.eye(2), 2)
    first = dist.MultivariateNormal(FIRST, SPREAD**2 * jnp.eye(2))
    graph = mjp.chain(process, SPACING * np.arange(len(voltage)), initial=first, steps=STEPS)
    graph.observe_each(lambda x: dist.Normal(x[0], noise), voltage)

    def estimate(key: Array, particles: int) -> Array:
        found = mjp.condition(graph)  # within the budget
        log_weights = jax.vmap(lambda key: found.sample(key)[1])(jax.random.split(key, particles))
        return found.log_evidence + logsumexp(log_weights) - jnp.log(particles)

    return estimate


def bootstrap(voltage: np.ndarray, noise: float) -> Callable[[Array, int], Array]:
    """Log-evidence estimated by a bootstrap filter."""
    h = SPACING / STEPS

    def move(x: Array, z: Array) -> tuple[Array, None]:
        return x + h * drift(x) + jnp.sqrt(h) * TRUTH["sigma"] * z, None

    def estimate(key: Array, particles: int) -> Array:
        first_key, key = jax.random.split(key)
        start = FIRST[:, None] + SPREAD * jax.random.normal(first_key, (2, particles))

        def see(x: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            y, key = now
            resample_key, move_key = jax.random.split(key)
            log_weight = -0.5 * ((y - x[0]) / noise) ** 2 - jnp.log(noise) - 0.5 * jnp.log(2 * jnp.pi)
            total = logsumexp(log_weight)
            cumulative = jnp.cumsum(jnp.exp(log_weight - total))
            points = (jnp.arange(particles) + jax.random.uniform(resample_key)) / particles
            chosen = jnp.minimum(jnp.searchsorted(cumulative, points, method="sort"), particles - 1)
            x, _ = lax.scan(move, x[:, chosen], jax.random.normal(move_key, (STEPS, 2, particles)))
            return x, total - jnp.log(particles)

        _, terms = lax.scan(see, start, (jnp.asarray(voltage), jax.random.split(key, len(voltage))))
        return jnp.sum(terms)

    return estimate


def within(estimate: Callable[[Array, int], Array], budget: float, most: int) -> tuple[Callable, int, float]:
    """The estimator with as many particles as take a budget of seconds, their number, and the seconds."""
    particles, run = 16, jax.jit(estimate, static_argnames="particles")
    while True:
        jax.block_until_ready(run(jax.random.key(0), particles=particles))
        seconds = []
        for i in range(5):
            began = time.perf_counter()
            jax.block_until_ready(run(jax.random.key(i), particles=particles))
            seconds.append(time.perf_counter() - began)
        taken = float(np.median(seconds))
        if taken > 0.7 * budget or particles >= most:
            return partial(run, particles=particles), particles, taken
        particles = min(most, int(particles * np.clip(0.9 * budget / taken, 1.25, 8.0)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    replications = 10 if quick else 40
    for noise in (0.2, 0.05):
        voltage = data(noise=noise)
        for budget in (0.02,) if quick else (0.02, 0.2):
            rows = {}
            for name, make in (("guided", guided), ("bootstrap", bootstrap)):
                run, particles, seconds = within(make(voltage, noise), budget, 100_000)
                found = np.asarray([run(jax.random.key(i)) for i in range(replications)])
                rows[name] = (float(np.var(found)), float(np.median(found)), particles, 1e3 * seconds)
            emit(
                "particle filters",
                f"neuron, noise {noise:g}, {1e3 * budget:g} ms, {replications} replications",
                "variance of the log-evidence",
                rows["guided"][0],
                unit="nats²",
                peer="bootstrap filter",
                peers=rows["bootstrap"][0],
                ratio=rows["bootstrap"][0] * rows["bootstrap"][3] / (rows["guided"][0] * rows["guided"][3]),
                **{f"{name}_{what}": value for name, row in rows.items() for what, value in _named(row)},
            )


def _named(row: tuple[float, float, int, float]) -> list[tuple[str, float]]:
    return list(zip(("median", "particles", "ms"), row[1:], strict=True))


if __name__ == "__main__":
    main()
