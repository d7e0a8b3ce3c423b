"""Influenza in a boarding school: variance of the log-evidence of a stochastic epidemic, on the same budget.

The guided particle filter against a bootstrap filter, which is written here with mjp's own simulator (faster
than the filters of other packages), at parameters near the posterior mode. Budgets are met only roughly,
so that the ratio is that of variance times the seconds taken.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from common import emit
from jax import Array, lax
from jax.scipy.special import logsumexp

import mjp
from mjp.inference.direct_method import direct_method
from mjp.inference.guided_smc import particle_sweep
from mjp.models import influenza
from mjp.models.series import Series

CONTACT, RECOVERY, OVERDISPERSION = 1.8, 0.5, 0.1
EVENTS = 10_000_000


def guided(data: Series) -> Callable[[Array, int], Array]:
    graph = influenza.epidemic(CONTACT, RECOVERY, OVERDISPERSION, data)
    events = mjp.condition(graph).clocks  # type: ignore[attr-defined]

    def estimate(key: Array, particles: int) -> Array:
        found = mjp.condition(graph, max_events=2 * events)  # within the budget
        return particle_sweep(found, key, particles, None, None).log_evidence[0]  # type: ignore[arg-type]

    return estimate


def bootstrap(data: Series) -> Callable[[Array, int], Array]:
    graph = influenza.epidemic(CONTACT, RECOVERY, OVERDISPERSION, data)
    process: Any = graph.edges[0].process
    seen = jnp.asarray(data.values)

    def estimate(key: Array, particles: int) -> Array:
        start = tuple(jnp.full(particles, n, jnp.int32) for n in (influenza.BOYS - 1, 1, 0))
        constants = tuple(jnp.broadcast_to(c, (particles,)) for c in process.constants(0))

        def day(x: tuple, now: tuple[Array, Array]) -> tuple[tuple, Array]:
            y, key = now
            bits_key, resample_key = jax.random.split(key)
            bits = jax.random.bits(bits_key, (2, particles), jnp.uint32)
            x = direct_method(
                process, x, constants, jnp.ones(particles), (bits[0], bits[1]), 0, EVENTS
            ).counts
            weight = dist.NegativeBinomial2(x[1] + 0.1, 1.0 / OVERDISPERSION).log_prob(y)
            total = logsumexp(weight)
            points = (jnp.arange(particles) + jax.random.uniform(resample_key)) / particles
            cumulative = jnp.cumsum(jnp.exp(weight - total))
            chosen = jnp.minimum(jnp.searchsorted(cumulative, points, method="sort"), particles - 1)
            return tuple(count[chosen] for count in x), total - jnp.log(particles)

        _, terms = lax.scan(day, start, (seen, jax.random.split(key, len(seen))))
        return jnp.sum(terms)

    return estimate


def measured(estimate: Callable, particles: int, repeats: int) -> tuple[np.ndarray, float]:
    """Estimates, and the median of the seconds that one takes."""
    run = jax.jit(estimate, static_argnums=1)
    keys = jax.random.split(jax.random.key(particles), repeats + 1)
    run(keys[-1], particles).block_until_ready()
    values, seconds = [], []
    for key in keys[:-1]:
        began = time.perf_counter()
        values.append(float(run(key, particles)))
        seconds.append(time.perf_counter() - began)
    return np.asarray(values), float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    repeats = 8 if parser.parse_args().quick else 60
    data = influenza.load()
    own, time_own = measured(guided(data), 50, repeats)
    _, unit = measured(bootstrap(data), 1000, 4)
    particles = max(100, int(1000 * time_own / unit))
    peers, time_peers = measured(bootstrap(data), particles, repeats)
    work = [np.var(own) * time_own, np.var(peers) * time_peers]
    emit(
        "epidemic",
        "14 counts of 763 boys",
        "variance of the log-evidence x seconds",
        float(work[0]),
        unit="s",
        peer="bootstrap filter",
        peers=float(work[1]),
        ratio=float(work[1] / work[0]),
        target=">= 10x",
        variances=[float(np.var(own)), float(np.var(peers))],
        means=[float(np.mean(own)), float(np.mean(peers))],
        seconds=[time_own, time_peers],
        particles=[50, particles],
    )


if __name__ == "__main__":
    main()
