"""Lasers that wear out, as Gamma processes with a rate for every unit.

15 lasers of gallium arsenide were run at 80 degrees Celsius. As a laser wears, it needs more current for the
same light: the percent increase of its operating current was recorded every 250 hours for 4000 hours. A laser
has failed when the increase reaches 10 percent. Time is in thousands of hours.

The increase of unit i is a Gamma process, whose increments over a time d are Gamma with shape `shape` d and
mean `wear_i` d, so that no path ever falls. Readings are taken as exact, and the likelihood is that of their
differences. Units wear at different speeds: the log of `wear_i` is Normal(log `mean_wear`, `spread`).

Priors: `mean_wear` is log-normal around 2 percent per thousand hours with 0.7 on the log, a life of 1300 to
20000 hours with 95%. `shape` per thousand hours is log-normal around 10 with 1 on the log: the increase of a
thousand hours varies by 32 percent of its mean around the unit's own speed, 12 to 84 with 95%. `spread` is
half-normal with scale 0.5.

Data: Meeker and Escobar (1998), Statistical Methods for Reliability Data, table C.17. Model: Lawless and
Crowder (2004), Covariates and random effects in a gamma process model with application to degradation and
failure, Lifetime Data Analysis 10(3):213-227, whose rates have a Gamma law in place of a log-normal one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import mjp
from mjp.models.tables import read_table

COLUMNS = ("unit", "hours", "increase")
FAILURE = 10.0  # percent
COORDS = {"unit": list(range(1, 16)), "increase_coordinate": ["increase"]}


@dataclass(frozen=True, eq=False)
class Degradation:
    """Readings of several units at the same times.

    Attributes:
        units: (n,) names of the units.
        hours: (m,) increasing, from 0.
        increase: (n, m) percent, NaN where missing; None for none at all, to simulate.
    """

    units: tuple
    hours: np.ndarray
    increase: np.ndarray | None

    def until(self, hours: float, every: float = 250.0) -> "Degradation":
        """The same readings, with times at which nothing was read yet, up to `hours`.

        Raises:
            ValueError: there are readings up to `hours` already.
        """
        more = np.arange(self.hours[-1] + every, hours + every / 2, every)
        if not len(more):
            raise ValueError(
                f"hours must be later than the last reading at {self.hours[-1]:g}, got {hours!r}"
            )
        times = np.append(self.hours, more)
        if self.increase is None:
            return Degradation(self.units, times, None)
        unread = np.full((len(self.units), len(more)), np.nan)
        return Degradation(self.units, times, np.concatenate([self.increase, unread], axis=1))


def load(path: str | PathLike | None = None) -> Degradation:
    """The readings of 15 units.

    Args:
        path: a CSV file with the columns unit, hours and increase; default the table in the package. All
            units have the same times, from 0, where the increase is 0; an empty increase is missing.

    Raises:
        ValueError: a column is absent, a unit has two readings at one time or none at a time of the others,
            times do not start at 0, or readings do not increase.
    """
    frame = read_table("gaas_lasers.csv", path, COLUMNS)
    units, times = frame["unit"].tolist(), frame["hours"].tolist()
    rows = Counter(zip(units, times, strict=True))
    for (unit, hours), number in rows.items():
        if number > 1:
            raise ValueError(f"path: unit {unit} has {number} rows at {hours:g} hours; expected one")
    wide = frame.pivot(index="unit", columns="hours", values="increase")
    for unit, number in Counter(units).items():
        if number < wide.shape[1]:
            raise ValueError(
                f"path: unit {unit} has {number} rows, others have {wide.shape[1]}; expected the same hours "
                "for all units, with an empty increase where none was read"
            )
    hours, increase = wide.columns.to_numpy(float), wide.to_numpy(float)
    if hours[0] != 0 or (increase[:, 0] != 0).any():
        raise ValueError("path: expected an increase of 0 at 0 hours for every unit")
    for unit, row in zip(wide.index, increase, strict=True):
        read = ~np.isnan(row)
        still = np.flatnonzero(np.diff(row[read]) <= 0)
        if len(still):
            at = hours[read][still[0] + 1]
            raise ValueError(f"path: unit {unit} does not increase at {at:g} hours; a Gamma process must")
    return Degradation(tuple(wide.index.tolist()), hours, increase)


def table(data: Degradation, values: Any) -> Mapping[str, np.ndarray]:
    """Simulated increases (n * m,), unit by unit, as the columns that `load` reads."""
    n, m = len(data.units), len(data.hours)
    columns = np.repeat(np.asarray(data.units), m), np.tile(data.hours, n), np.asarray(values).reshape(-1)
    return dict(zip(COLUMNS, columns, strict=True))


def ageing(wear: Any, shape: Any, data: Degradation) -> mjp.Graph:
    """The graph of the increases of all units, in percent; time in thousands of hours.

    Args:
        wear: (n,) mean increase of each unit, percent per thousand hours.
        shape: of increments, per thousand hours.
    """
    rate = shape / jnp.asarray(wear)
    process = mjp.GammaProcess(shape, lambda t, c: rate[c["series"]])
    chain = mjp.chain(process, data.hours / 1000.0, initial=0.0, series=len(data.units))
    known = data.increase
    if known is not None:
        known = np.concatenate([np.full((len(known), 1), np.nan), known[:, 1:]], axis=1)
    return chain.observe_each(mjp.Exactly(), known)


def degradation(data: Degradation) -> None:
    """Gamma processes of which every unit has its own rate.

    Sites: `mean_wear` and `wear` (n,) of every unit, percent per thousand hours; `spread` of the logs of
    `wear` and `deviation` (n,), their standard scores; `shape` per thousand hours; `increase`, the paths.
    """
    mean = numpyro.sample("mean_wear", dist.LogNormal(jnp.log(2.0), 0.7))
    spread = numpyro.sample("spread", dist.HalfNormal(0.5))
    shape = numpyro.sample("shape", dist.LogNormal(jnp.log(10.0), 1.0))
    with numpyro.plate("unit", len(data.units)):
        deviation = numpyro.sample("deviation", dist.Normal(0.0, 1.0))
        wear = numpyro.deterministic("wear", mean * jnp.exp(spread * deviation))
        mjp.sample("increase", ageing(wear, shape, data))
