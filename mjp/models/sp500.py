"""Daily returns of the S&P 500 index, whose volatility wanders.

Closing values of the index on 5031 trading days, 1999 to 2018; a return is 100 times the change of the log
of the index, less the mean of all returns. Stochastic volatility: the log-variance x of a day's return is an
autoregression around its mean, and the return is Normal(0, exp(x/2)). The autoregression is linear, the
observation is not, so that the path is guided. By default the last 750 returns are used, three years.

Priors, as in Kim, Shephard and Chib: the persistence is 2 b - 1 with b ~ Beta(20, 1.5), 95% between 0.64 and
0.997. The mean of x is Normal(0, 1): a day's return has a standard deviation around 1 percent, 95% between
0.37 and 2.7. The standard deviation of a daily change of x is log-normal around 0.2 with 0.5 on the log.

Data: adjusted closing values as in the Python package arch. Model: Kim, Shephard and Chib (1998), Stochastic
volatility: likelihood inference and comparison with ARCH models, Review of Economic Studies 65(3):361-393.
"""

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

DAY, CLOSE = "Date", "Adj Close"


@dataclass(frozen=True, eq=False)
class Returns:
    """Daily returns.

    Attributes:
        days: (n + 1,) trading days as text; a return is from one day to the next.
        values: (n,) returns in percent, less their mean; None for none at all, to simulate.
    """

    days: np.ndarray
    values: np.ndarray | None


def load(path: str | PathLike | None = None, last: int | None = 750) -> Returns:
    """The returns.

    Args:
        path: a CSV file with the columns Date and Adj Close, in the order of time; default the table in the
            package.
        last: how many returns to keep, counted from the end; None for all.

    Raises:
        ValueError: a column is absent, or a value is not positive.
    """
    frame = read_table("sp500_arch_1999_2018.csv", path, [DAY, CLOSE])
    close = frame[CLOSE].to_numpy(float)
    bad = np.flatnonzero(~(close > 0))
    if len(bad):
        raise ValueError(f"path: row {bad[0]} has the value {close[bad[0]]:g}; expected positive numbers")
    values = 100 * np.diff(np.log(close))
    values = values - values.mean()
    start = 0 if last is None else max(len(values) - last, 0)
    return Returns(frame[DAY].to_numpy(str)[start:], values[start:])


def volatility(persistence: Any, mean: Any, deviation: Any, data: Returns) -> mjp.Graph:
    """The graph of the log-variance.

    Args:
        persistence: autocorrelation of the log-variance from one day to the next.
        mean: mean of the log-variance.
        deviation: standard deviation of its daily change.
    """
    process = mjp.LinearGaussian(persistence, mean * (1 - persistence), deviation**2)
    stationary = dist.Normal(mean, deviation / jnp.sqrt(1 - persistence**2))
    chain = mjp.chain(process, np.arange(1.0, len(data.days)), initial=stationary)
    return chain.observe_each(lambda x: dist.Normal(0.0, jnp.exp(x[0] / 2)), data.values)


def stochastic_volatility(data: Returns) -> None:
    """Returns whose log-variance is a stationary autoregression.

    Sites: `mean` of the log-variance; `persistence_share`, b, and `persistence`, 2 b - 1; `deviation` of a
    daily change of the log-variance; `log_variance`, the path.
    """
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    share = numpyro.sample("persistence_share", dist.Beta(20.0, 1.5))
    persistence = numpyro.deterministic("persistence", 2 * share - 1)
    deviation = numpyro.sample("deviation", dist.LogNormal(jnp.log(0.2), 0.5))
    mjp.sample("log_variance", volatility(persistence, mean, deviation, data))


def table(data: Returns, values: Any) -> Mapping[str, np.ndarray]:
    """Closing values with these returns (n,), as the columns that `load` reads; they start at 100."""
    close = 100 * np.exp(np.cumsum(np.append(0.0, np.asarray(values))) / 100)
    return {DAY: data.days, CLOSE: close}
