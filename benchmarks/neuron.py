"""Effective draws per second for a FitzHugh–Nagumo neuron: 100 noisy observations of one coordinate.

The posterior of three parameters and the path, exact for the discretisation with five steps between
observations, by `mjp.fit`; for reference the best peers reach 8 (random-walk particle Metropolis) and 0.14
(latent paths) effective draws per second of the slowest parameter.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from common import emit
from numpyro.diagnostics import effective_sample_size

import mjp

TRUTH = {"I": 0.5, "a": 0.08, "sigma": 0.15}
NOISE, SPACING, N = 0.2, 0.5, 100


def data(seed: int = 3, noise: float = NOISE) -> np.ndarray:
    """Voltages simulated with 50 Euler steps between observations."""
    rng, x, h = np.random.default_rng(seed), np.array([-1.0, -0.5]), SPACING / 50
    found = []
    for _ in range(N):
        found.append(x[0] + noise * rng.normal())
        for _ in range(50):
            v, w = x
            drift = np.array([v - v**3 / 3 - w + TRUTH["I"], TRUTH["a"] * (v + 0.7 - 0.8 * w)])
            x = x + h * drift + np.sqrt(h) * TRUTH["sigma"] * rng.normal(size=2)
    return np.array(found)


def neuron(voltage: np.ndarray, steps: int = 5) -> None:
    current = numpyro.sample("I", dist.Normal(0.5, 0.5))
    a = numpyro.sample("a", dist.LogNormal(jnp.log(0.1), 0.5))
    sigma = numpyro.sample("sigma", dist.LogNormal(jnp.log(0.2), 0.5))
    process = mjp.Diffusion(
        lambda t, x: jnp.array([x[0] - x[0] ** 3 / 3 - x[1] + current, a * (x[0] + 0.7 - 0.8 * x[1])]),
        lambda t, x: sigma * jnp.ones(2),
        dim=2,
    )
    first = dist.MultivariateNormal(jnp.array([-1.0, -0.5]), 0.25 * jnp.eye(2))
    graph = mjp.chain(process, SPACING * np.arange(N), initial=first, steps=steps)
    graph.observe_each(lambda x: dist.Normal(x[0], NOISE), voltage)
    mjp.sample("x", graph)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    draws = 100 if quick else 1000
    began = time.perf_counter()
    fit = mjp.fit(neuron, data(), draws=draws, warmup=draws // 2, chains=2, progress=False)
    total = time.perf_counter() - began
    effective = {name: float(effective_sample_size(fit.samples[name])) for name in TRUTH}
    slowest = min(effective.values())
    sampling = fit.seconds["sampling"]
    case = f"2 x {draws} draws, slowest of 3 parameters"
    emit(
        "neuron",
        case,
        "effective draws per second, warm",
        slowest / sampling,
        unit="1/s",
        peer="PMMH",
        peers=8.0,
        ratio=slowest / sampling / 8.0,
        target="50",
        effective=slowest,
        seconds=sampling,
        divergences=int(fit.statistics["diverging"].sum()),
    )
    emit(
        "neuron",
        case,
        "with warm-up and compilation",
        slowest / total,
        unit="1/s",
        target="25",
        seconds=total,
    )


if __name__ == "__main__":
    main()
