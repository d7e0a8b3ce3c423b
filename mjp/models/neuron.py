"""A noisy neuron, seen through its membrane potential only.

The FitzHugh-Nagumo equations with noise: a fast potential v and a slow recovery w,

    dv = (v - v^3 / 3 - w + current) dt + noise dW_1,
    dw = speed (v + 0.7 - 0.8 w) dt + noise dW_2,

in units without dimension. The potential is recorded at 100 times, 0.5 apart, with a normal error; the
recovery is never seen. The equations are stepped by Euler-Maruyama with five steps between two records,
which is part of the model. The data are simulated by `generate`, with ten times finer steps.

Priors: `current` is Normal(0.5, 0.5), from rest to steady firing; `speed`, `noise` and `error` are log-normal
around 0.1, 0.2 and 0.2, with 0.5 on the log, 95% within a factor of 2.7. The first state is normal around
(-1, -0.5), near rest, with standard deviations of 0.5.

Model: FitzHugh (1961), Impulses and physiological states in theoretical models of nerve membrane, Biophysical
Journal 1(6):445-466; with noise, Ditlevsen and Samson (2014), Estimation in the partially observed stochastic
Morris-Lecar neuronal model with particle filter and stochastic approximation methods, Annals of Applied
Statistics 8(2):674-702, treat a relative of it.
"""

from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.series import Series, read_series

COLUMNS = ("time", "potential")
TRUE = {"current": 0.5, "speed": 0.08, "noise": 0.15, "error": 0.2}
STEPS = 5
COORDS = {"neuron_coordinate": ["potential v", "recovery w"]}


def load(path: str | PathLike | None = None) -> Series:
    """The recorded potential.

    Args:
        path: a CSV file with the columns time and potential; default the table in the package.

    Raises:
        ValueError: a column is absent, or a time occurs twice.
    """
    return read_series("neuron.csv", path, "time", ["potential"])


def generate(seed: int = 3) -> Series:
    """Simulate the data of the package: 100 records of the model at `TRUE`, with 50 steps in between."""
    rng, gap, fine = np.random.default_rng(seed), 0.5, 50
    step, state, records = gap / fine, np.array([-1.0, -0.5]), np.empty(100)
    for i in range(len(records)):
        records[i] = state[0] + TRUE["error"] * rng.normal()
        for _ in range(fine):
            v, w = state
            drift = np.array([v - v**3 / 3 - w + TRUE["current"], TRUE["speed"] * (v + 0.7 - 0.8 * w)])
            state = state + step * drift + np.sqrt(step) * TRUE["noise"] * rng.normal(size=2)
    return Series(gap * np.arange(len(records)), records)


def membrane(current: Any, speed: Any, noise: Any, error: Any, data: Series, steps: int = STEPS) -> mjp.Graph:
    """The graph of potential and recovery, with `steps` of the discretisation between two records."""

    def drift(_: Any, x: Array) -> Array:
        v, w = x
        return jnp.stack([v - v**3 / 3 - w + current, speed * (v + 0.7 - 0.8 * w)])

    process = mjp.Diffusion(drift, jnp.stack([noise, noise]), dim=2)
    first = dist.Normal(jnp.array([-1.0, -0.5]), 0.5).to_event(1)
    chain = mjp.chain(process, data.times, initial=first, steps=steps)
    return chain.observe_each(lambda x: dist.Normal(x[0], error), data.values)


def firing(data: Series, steps: int = STEPS) -> None:
    """FitzHugh-Nagumo with noise, seen through its potential.

    Sites: `current`, `speed`, `noise` and `error`; `neuron`, the path of potential and recovery.
    """
    current = numpyro.sample("current", dist.Normal(0.5, 0.5))
    speed = numpyro.sample("speed", dist.LogNormal(jnp.log(0.1), 0.5))
    noise = numpyro.sample("noise", dist.LogNormal(jnp.log(0.2), 0.5))
    error = numpyro.sample("error", dist.LogNormal(jnp.log(0.2), 0.5))
    mjp.sample("neuron", membrane(current, speed, noise, error, data, steps))
