"""The yearly flow of the Nile at Aswan, as a level that wanders and is measured with noise.

100 yearly discharges, 1871 to 1970, in 10^8 m^3. The local level model: the level of a year is that of the
year before plus a normal change, and the flow is the level plus a normal deviation. Both steps are
linear-Gaussian, so that the level is integrated out exactly.

Priors: the first level is Normal(1000, 500), which covers any flow of a river of this size. The standard
deviation of a flow around its level is half-normal with scale 300, and that of a yearly change of the level
half-normal with scale 100: the flow of one year may be off by half of the whole, and a level that changes
by more than 200 a year could not be told from noise. A change of zero, a river that keeps its level, is
where the second density is highest.

Data: Cobb (1978), The problem of the Nile: conditional solution to a changepoint problem, Biometrika
65(2):243-251. Model: Durbin and Koopman (2012), Time Series Analysis by State Space Methods, 2nd edition,
chapter 2; with a diffuse first level their maximum of the likelihood is at variances 15099 and 1469.1.
"""

from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.series import Series, read_series

COLUMNS = ("year", "flow")


def load(path: str | PathLike | None = None) -> Series:
    """The flows of 100 years.

    Args:
        path: a CSV file with the columns year and flow (empty where missing); default the table in the
            package.

    Raises:
        ValueError: a column is absent, years are not consecutive.
    """
    series = read_series("nile.csv", path, "year", ["flow"])
    gaps = (series.times[1:] - series.times[:-1] != 1).nonzero()[0]
    if len(gaps):
        before, after = series.times[gaps[0] : gaps[0] + 2]
        raise ValueError(
            f"path: the years {before:g} and {after:g} follow each other; expected consecutive years, with "
            "an empty flow where none is known"
        )
    return series


def river(flow_variance: Any, level_variance: Any, data: Series, initial: Any = None) -> mjp.Graph:
    """The graph at given variances of a flow around its level, and of a yearly change of the level.

    Args:
        initial: law of the first level; default the prior of `local_level`.
    """
    law = dist.Normal(1000.0, 500.0) if initial is None else initial
    level = mjp.LinearGaussian(1.0, covariance=level_variance)
    chain = mjp.chain(level, data.times, initial=law)
    return chain.observe_each(lambda x: dist.Normal(x[0], jnp.sqrt(flow_variance)), data.values)


def local_level(data: Series) -> None:
    """A level that takes one normal step per year, and flows that deviate from it.

    Sites: `flow_deviation`, the standard deviation of a flow around its level; `level_deviation`, that of a
    yearly change of the level; `level`, the path.
    """
    flow = numpyro.sample("flow_deviation", dist.HalfNormal(300.0))
    level = numpyro.sample("level_deviation", dist.HalfNormal(100.0))
    mjp.sample("level", river(flow**2, level**2, data))


def log_likelihood(log_variances: Any, data: Series) -> Array:
    """Log-likelihood at the logs (2,) of both variances, the first level nearly diffuse: Normal(0, 10^7)."""
    flow, level = jnp.exp(log_variances)
    return mjp.condition(river(flow, level, data, dist.Normal(0.0, 1e7**0.5))).log_evidence
