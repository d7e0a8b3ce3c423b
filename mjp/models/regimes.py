"""Calm and wild days of the S&P 500 index: its growth and volatility switch between two regimes.

The level is 100 times the log of the index, 0 on the first day; it is a Brownian motion with a drift and a
dispersion, in percent per trading day, that depend on a regime nobody sees. The regime is a Markov jump
process in its stationary state, whose rates are per trading day. Closing values are taken as known without
error, so that the likelihood is exact: the returns are a hidden Markov chain with normal emissions. By
default the last 2500 returns are used, ten years.

Regimes can be renamed without changing the likelihood, so their dispersions are ordered. Priors: the log of
the lower dispersion is Normal(log 0.6, 0.5), 95% between 0.2 and 1.6 percent per day; the log of the ratio of
both is log-normal around 0.8 with 0.5 on its log, so that the wild dispersion is 1.3 to 8 times the calm one
with 95%. Drifts are Normal(0, 0.2). Rates are log-normal around 1/50 with 1 on the log: visits last about
fifty days, 7 to 350 with 95%.

Data: adjusted closing values as in the Python package arch. Model: Hardy (2001), A regime-switching model of
long-term stock returns, North American Actuarial Journal 5(2):41-53.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.transforms import OrderedTransform

import mjp
from mjp.models import sp500
from mjp.models.sp500 import Returns

REGIMES = ("calm", "wild")
TRANSITIONS = (("calm", "wild"), ("wild", "calm"))
COORDS = {"regime": list(REGIMES), "switch": ["calm -> wild", "wild -> calm"]}


def load(path: str | PathLike | None = None, last: int | None = 2500) -> Returns:
    """The returns, see `mjp.models.sp500.load`."""
    return sp500.load(path, last)


def index(drift: Any, dispersion: Any, rate: Any, data: Returns) -> mjp.Graph:
    """The graph of the level.

    Args:
        drift: (2,) of each regime, percent per day; less the mean of all returns, as the data are.
        dispersion: (2,) of each regime, percent per square root of a day.
        rate: (2,) per day, from calm to wild and back.
    """
    # with constant coefficients, Euler's steps have the law of the process itself
    brownian = [(lambda t, x, i=i: drift[i], dispersion[i]) for i in range(2)]
    process = mjp.SwitchingDiffusion(
        dict(zip(REGIMES, brownian, strict=True)), dict(zip(TRANSITIONS, rate, strict=True))
    )
    chain = mjp.chain(process, np.arange(float(len(data.days))), initial=0.0)
    levels = None if data.values is None else np.append(np.nan, np.cumsum(data.values))
    return chain.observe_each(mjp.Exactly(), levels)


def switching_returns(data: Returns) -> None:
    """Returns in calm and wild regimes.

    Sites: `log_dispersion` (2,), increasing, and `dispersion` (2,), its exponential; `drift` (2,); `rate`
    (2,) per day; `level`, the path.
    """
    log_dispersion = numpyro.sample(
        "log_dispersion",
        dist.TransformedDistribution(
            dist.Normal(jnp.array([np.log(0.6), np.log(0.8)]), 0.5).to_event(1), OrderedTransform()
        ),
        infer={"event_dims": ["regime"]},
    )
    dispersion = numpyro.deterministic("dispersion", jnp.exp(log_dispersion))
    drift = numpyro.sample(
        "drift", dist.Normal(0.0, 0.2).expand([2]).to_event(1), infer={"event_dims": ["regime"]}
    )
    rate = numpyro.sample(
        "rate", dist.LogNormal(jnp.log(0.02), 1.0).expand([2]).to_event(1), infer={"event_dims": ["switch"]}
    )
    mjp.sample("level", index(drift, dispersion, rate, data))


def log_likelihood(parameters: Any, data: Returns) -> Array:
    """Log-likelihood at drifts (2), logs of dispersions (2) and logs of rates (2), in this order."""
    drift, dispersion, rate = parameters[:2], jnp.exp(parameters[2:4]), jnp.exp(parameters[4:])
    return mjp.condition(index(drift, dispersion, rate, data)).log_evidence


def table(data: Returns, values: Any) -> Mapping[str, np.ndarray]:
    """Closing values with these levels (n + 1, ...), as the columns that `load` reads; they start at 100."""
    returns = np.diff(np.asarray(values).reshape(-1))
    return sp500.table(data, returns)
