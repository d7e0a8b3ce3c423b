"""Wear of lasers, whose operating current creeps up until they fail.

The current that a laser needs for a constant output grows with its age; a laser fails when it has grown by 10
percent. The growth of each of six lasers is a Gamma process with a speed of its own, read with a normal error
every 400 hours, up to 4000 hours:

    x_i(t) - x_i(s) ~ Gamma(speed_i (t - s) / grain, 1 / grain),    reading = x_i(t) + error.

`grain` is the variance of an increment over its mean, the size of the jumps of which the wear is made. Speeds
are log-normal around the speed of the make. The data are simulated by `generate`, in the design of Meeker and
Escobar's table of GaAs lasers (1998), which had no error of reading.

Priors: the speed of the make is log-normal around 2 percent per 1000 hours, with 0.5 on the log; the grain
log-normal around 0.1 percent with 0.7, the error around 0.1 percent with 0.5; the spread of the logs of
speeds is half-normal with scale 0.5.

Model: Lawless and Crowder (2004), Covariates and random effects in a gamma process model with application to
degradation and failure, Lifetime Data Analysis 10(3):213-227. Design of the data: Meeker and Escobar (1998),
Statistical Methods for Reliability Data, table C.17.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import mjp
from mjp.models.series import Series, read_series

LASERS = tuple(f"laser {i}" for i in range(1, 7))
COLUMNS = ("hours", *LASERS)
TRUE = {"speed": 2.0, "spread": 0.25, "grain": 0.12, "error": 0.1}
FAILURE = 10.0  # percent
COORDS = {"wear_coordinate": ["growth of the current, %"], "laser": list(LASERS)}


def load(path: str | PathLike | None = None) -> Series:
    """Growth of the current of each laser in percent, (n, 6), empty where it was not read.

    Args:
        path: a CSV file with the column hours and one for each laser; default the table in the package.

    Raises:
        ValueError: a column is absent, or a time occurs twice.
    """
    return read_series("lasers.csv", path, "hours", LASERS)


def generate(seed: int = 5) -> Series:
    """Simulate the data of the package at `TRUE`."""
    rng, hours = np.random.default_rng(seed), np.arange(400.0, 4001.0, 400.0)
    speeds = TRUE["speed"] * np.exp(TRUE["spread"] * rng.normal(size=len(LASERS)))
    parts = rng.gamma(0.4 * speeds / TRUE["grain"], TRUE["grain"], size=(len(hours), len(LASERS)))
    readings = np.cumsum(parts, axis=0) + TRUE["error"] * rng.normal(size=parts.shape)
    return Series(hours, np.round(readings, 2))


def growth(speeds: Any, grain: Any, error: Any, data: Series, until: Any = None) -> mjp.Graph:
    """The graph of all lasers, new at time zero.

    Args:
        speeds: (6,) percent per 1000 hours.
        until: later times at which nothing is read, for forecasts.
    """
    later = np.asarray([] if until is None else until, float)
    process = mjp.GammaProcess(lambda t, c: speeds[c["series"]] * t / (1000.0 * grain), 1.0 / grain)
    times = np.concatenate([[0.0], data.times, later])
    chain = mjp.chain(process, times, initial=0.0, series=len(LASERS))
    values = None
    if data.values is not None:
        around = np.full((len(LASERS), 1), np.nan), np.full((len(LASERS), len(later)), np.nan)
        values = np.concatenate([around[0], data.values.T, around[1]], axis=1)
    return chain.observe_each(lambda x: dist.Normal(x[0], error), values)


def wear(data: Series, until: Any = None) -> None:
    """Six Gamma processes with speeds of their own, read with errors.

    Sites: `speed` of the make, `spread`, `grain` and `error`; `relative` (6,), standard normal, and `speeds`
    (6,); `wear`, the paths.
    """
    speed = numpyro.sample("speed", dist.LogNormal(jnp.log(2.0), 0.5))
    spread = numpyro.sample("spread", dist.HalfNormal(0.5))
    grain = numpyro.sample("grain", dist.LogNormal(jnp.log(0.1), 0.7))
    error = numpyro.sample("error", dist.LogNormal(jnp.log(0.1), 0.5))
    each = dist.Normal(0.0, 1.0).expand([len(LASERS)]).to_event(1)
    relative = numpyro.sample("relative", each, infer={"event_dims": ["laser"]})
    speeds: Any = numpyro.deterministic("speeds", speed * jnp.exp(spread * jnp.asarray(relative)))
    mjp.sample("wear", growth(speeds, grain, error, data, until))


def table(data: Series, readings: Any) -> Mapping[str, np.ndarray]:
    """The columns of a table that `load` reads, from simulated readings (nodes,) of all lasers."""
    values = np.asarray(readings).reshape(len(LASERS), -1)[:, 1 : len(data.times) + 1]
    return dict(zip(COLUMNS, [data.times, *values], strict=True))
