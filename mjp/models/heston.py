"""Daily returns of the S&P 500 index, whose variance is a square-root diffusion.

The model of Heston without leverage: the variance V of a day's return, in percent squared, follows the
process of Cox, Ingersoll and Ross, with time in trading days,

    dV = speed (level - V) dt + noise sqrt(V) dW,

and the return is Normal(0, sqrt(V)). V stays positive; its logarithm is stepped by local linearisation, one
step per day, which is part of the model. The drift of the logarithm has no bound as V goes to 0, where
Euler-Maruyama steps would run away. Observations are not linear in the logarithm, so that the path is guided.
By default the last 750 returns are used, three years.

In the long run V has a Gamma law with mean `level` and shape 2 speed level / noise^2. `shape` is the
parameter in the place of `noise`, since it tells how unequal the days are: V has the standard deviation
level / sqrt(shape). A shape above 1 keeps V away from 0 (Feller's condition). V of the first day is
log-normal, with the mean and the variance of log V in the long run.

Priors: `level` is log-normal around 1 with 0.7 on the log, a standard deviation of daily returns of 0.5 to 2
percent with 95%. `speed` is log-normal around 0.05 with 0.7 on the log: a deviation of V from its level
halves in 14 days, 3 to 55 with 95%. `shape` is 1 plus a log-normal around 1 with 0.7 on the log, 1.25 to 5
with 95%.

Data: adjusted closing values as in the Python package arch. Model: Heston (1993), A closed-form solution for
options with stochastic volatility, Review of Financial Studies 6(2):327-343; Cox, Ingersoll and Ross (1985),
A theory of the term structure of interest rates, Econometrica 53(2):385-407.
"""

from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.scipy.special import digamma, polygamma

import mjp
from mjp.models import sp500
from mjp.models.sp500 import Returns

COORDS = {"variance_coordinate": ["variance"]}


def load(path: str | PathLike | None = None, last: int | None = 750) -> Returns:
    """The returns, see `mjp.models.sp500.load`."""
    return sp500.load(path, last)


def variance(level: Any, speed: Any, shape: Any, data: Returns, steps: int = 1) -> mjp.Graph:
    """The graph of the variance of daily returns, in percent squared.

    Args:
        level: mean of the variance in the long run, percent squared.
        speed: of the return to it, per day.
        shape: of the Gamma law of the variance in the long run, above 1.
        steps: of the discretisation, per day.
    """
    noise = jnp.sqrt(2 * speed * level / shape)
    process = mjp.Diffusion(
        lambda t, v: speed * (level - v),
        lambda t, v: noise * jnp.sqrt(v),
        scheme="local linearisation",
        support="positive",
    )
    log_mean = digamma(shape) - jnp.log(shape / level)
    first = dist.LogNormal(log_mean, jnp.sqrt(polygamma(1, shape)))
    chain = mjp.chain(process, np.arange(1.0, len(data.days)), initial=first, steps=steps)
    return chain.observe_each(lambda v: dist.Normal(0.0, jnp.sqrt(v[0])), data.values)


def square_root_volatility(data: Returns, steps: int = 1) -> None:
    """Returns whose variance is a square-root diffusion.

    Sites: `level` of the variance, percent squared; `speed` per day; `excess_shape`, and `shape`, 1 more;
    `noise`, percent per square root of a day; `variance`, the path.
    """
    level = numpyro.sample("level", dist.LogNormal(0.0, 0.7))
    speed = numpyro.sample("speed", dist.LogNormal(jnp.log(0.05), 0.7))
    excess = numpyro.sample("excess_shape", dist.LogNormal(0.0, 0.7))
    shape = numpyro.deterministic("shape", 1.0 + excess)
    numpyro.deterministic("noise", jnp.sqrt(2 * speed * level / shape))
    mjp.sample("variance", variance(level, speed, shape, data, steps))
