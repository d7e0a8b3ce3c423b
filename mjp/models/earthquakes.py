"""Yearly numbers of major earthquakes, as a Poisson process whose rate switches between regimes.

107 counts of earthquakes of magnitude 7 or more in the world, 1900 to 2006. The regime of a year is a
hidden Markov chain with m states that has run forever, so that the first year's regime has the stationary
law; given regime i the count is Poisson with mean `rate[i]` per year.

Regimes can be renamed without changing the likelihood, so their rates are ordered: `log_rate` increases.
Priors: the log of the lowest rate is Normal(log 12, 0.5), 95% between 4.5 and 32 per year, the range in
which reasonable people would guess; each further log-rate adds exp(Normal(-1, 0.7)), a factor of 1.4 in the
median and 1.1 to 4.3 with 95%, which keeps neighbouring regimes apart. A row of the transition matrix is
Dirichlet with 5 for staying and 1 for every other regime: a regime tends to last for years.

Model: Zucchini, MacDonald and Langrock (2016), Hidden Markov Models for Time Series, 2nd edition, chapters
1 to 3. Counts: U.S. Geological Survey.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions.transforms import OrderedTransform

import mjp
from mjp.models.tables import read_table


@dataclass(frozen=True, eq=False)
class Counts:
    """Events per year.

    Attributes:
        years: (n,) increasing.
        counts: (n,) whole numbers, NaN where missing; None for none at all, to simulate.
    """

    years: np.ndarray
    counts: np.ndarray | None


def load(path: str | PathLike | None = None) -> Counts:
    """The counts, of 107 years.

    Args:
        path: a CSV file with the columns year and count; default the table in the package.

    Raises:
        ValueError: a column is absent, or the years are not consecutive.
    """
    frame = read_table("earthquakes_m7_1900_2006.csv", path, ["year", "count"]).sort_values("year")
    years = frame["year"].to_numpy(float)
    gaps = np.flatnonzero(np.diff(years) != 1)
    if len(gaps):
        before, after = years[gaps[0] : gaps[0] + 2]
        raise ValueError(
            f"path: the years {before:g} and {after:g} follow each other; expected consecutive years, with "
            "an empty count where none is known"
        )
    return Counts(years, frame["count"].to_numpy(float))


def regimes(m: int) -> Sequence[str]:
    """Names of m regimes, from the lowest rate to the highest."""
    return ("quiet", "usual", "busy") if m == 3 else tuple(f"regime {i + 1}" for i in range(m))


def coords(m: int = 3) -> dict[str, list[str]]:
    """Labels of the axes of the sites."""
    return {"regime": list(regimes(m)), "next_regime": list(regimes(m))}


def stationary(transition: Any) -> Array:
    """The law pi (m,) with pi @ transition = pi, for a chain with a single one."""
    m = transition.shape[-1]
    # pi (I - A) = 0 and pi 1 = 1 added up: pi (I - A + 1 1') = 1', which has exactly one solution
    return jnp.linalg.solve((jnp.eye(m) - transition + 1.0).T, jnp.ones(m))


def activity(rate: Any, transition: Any, data: Counts) -> mjp.Graph:
    """The graph of the model.

    Args:
        rate: (m,) events per year of each regime.
        transition: (m, m) from one year's regime (rows) to the next year's.
        data: the counts.
    """
    chain = mjp.chain(
        mjp.MarkovChain(transition, regimes(transition.shape[-1])),
        data.years,
        initial=dist.Categorical(stationary(transition)),
    )
    return chain.observe_each(lambda regime: dist.Poisson(rate[regime]), data.counts)


def seismicity(data: Counts, m: int = 3) -> None:
    """Poisson counts with m regimes.

    Sites: `log_rate` (m,), increasing, and `rate` (m,) per year, its exponential; `transition` (m, m), from
    one year's regime to the next year's; `activity`, the path of regimes.
    """
    if m < 2:
        raise ValueError(f"m must be at least 2, got {m}")
    loc = jnp.append(jnp.log(12.0), jnp.full(m - 1, -1.0))
    scale = jnp.append(0.5, jnp.full(m - 1, 0.7))
    log_rate = numpyro.sample(
        "log_rate",
        dist.TransformedDistribution(dist.Normal(loc, scale).to_event(1), OrderedTransform()),
        infer={"event_dims": ["regime"]},
    )
    rate = numpyro.deterministic("rate", jnp.exp(log_rate))
    transition = numpyro.sample(
        "transition",
        dist.Dirichlet(jnp.ones((m, m)) + 4.0 * jnp.eye(m)).to_event(1),
        infer={"event_dims": ["regime", "next_regime"]},
    )
    mjp.sample("activity", activity(rate, transition, data))


def log_likelihood(parameters: Any, data: Counts) -> Array:
    """Log-likelihood at unconstrained parameters (m * m,).

    The first m are the lowest log-rate and the logs of the m - 1 increments; the others are, row by row, the
    logits of moving to each other regime, against staying.
    """
    m = int(np.sqrt(len(parameters)))
    rate = jnp.exp(OrderedTransform()(parameters[:m]))
    return mjp.condition(activity(rate, transition_of(parameters[m:], m), data)).log_evidence.sum()


def transition_of(logits: Any, m: int) -> Array:
    """The (m, m) matrix with these m (m - 1) logits off the diagonal, row by row, and 0 on it."""
    away = np.flatnonzero(~np.eye(m, dtype=bool))
    table = jnp.zeros(m * m).at[away].set(logits).reshape(m, m)
    odds = jnp.exp(table)
    return odds / odds.sum(-1, keepdims=True)
