"""Influenza in a boarding school, as a stochastic epidemic.

In January 1978 influenza broke out in a boarding school of 763 boys in the north of England. On 14 days the
boys confined to bed were counted. Boys are susceptible S, infected I or recovered R:

    S + I -> 2 I   at rate contact / 763 per pair and day,
    I -> R         at rate recovery per boy and day.

One boy is infected a day before the first count. The number in bed is negative binomial with mean I + 0.1
and variance mean + (overdispersion + 1e-5) mean^2; the 0.1 keeps a count possible where nobody is infected,
and the 1e-5, at which the law is all but Poisson, keeps it computable in single precision.

Priors, those of Grinsztajn et al.: `contact` is Normal(2, 1) and `recovery` Normal(0.4, 0.5), positive;
`overdispersion` is exponential with mean 0.2.

Data: Anonymous (1978), Influenza in a boarding school, British Medical Journal 1:587. Model: Grinsztajn,
Semenova, Margossian and Riabiz (2021), Bayesian workflow for disease transmission modeling in Stan,
Statistics in Medicine 40(27):6209-6234, with the deterministic epidemic replaced by a stochastic one.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import mjp
from mjp.models.series import Series
from mjp.models.tables import in_dates, read_table

BOYS = 763
COLUMNS = ("date", "in_bed")
LEAST = 1e-5  # overdispersion
_FIRST_DAY = "1978-01-22"


def load(path: str | PathLike | None = None) -> Series:
    """The boys in bed on each day; times are in days since the day before the first count.

    Args:
        path: a CSV file with the columns date (year-month-day) and in_bed; default the table in the package.

    Raises:
        ValueError: a column is absent, a date cannot be read or occurs twice, a count is not an integer
            from 0 to 763.
    """
    frame = read_table("influenza_boarding_school_1978.csv", path, COLUMNS).sort_values("date")
    dates = in_dates(frame, "date", _FIRST_DAY)
    if dates.duplicated().any():
        twice = dates.iloc[int(np.argmax(dates.duplicated()))]
        raise ValueError(f"path: the date {twice:%Y-%m-%d} occurs twice; expected one row for each")
    in_bed = frame["in_bed"].to_numpy(float)
    seen = in_bed[~np.isnan(in_bed)]
    if np.any((seen < 0) | (seen > BOYS) | (seen != np.floor(seen))):
        raise ValueError(f"path: the column 'in_bed' must hold integers from 0 to {BOYS}")
    return Series((dates - dates.iloc[0]).dt.days.to_numpy(float) + 1.0, in_bed)


def table(data: Series, values: Any) -> Mapping[str, np.ndarray]:
    """Simulated counts (n,), that of the day before the first included, as the columns that `load` reads.

    The law of the counts goes beyond the number of boys; such counts are written as all 763.
    """
    in_bed = np.asarray(values)[1:]
    days = np.datetime64(_FIRST_DAY) + (data.times - 1).astype("timedelta64[D]")
    return {COLUMNS[0]: days.astype(str), COLUMNS[1]: np.minimum(in_bed, BOYS).astype(int)}


def epidemic(contact: Any, recovery: Any, overdispersion: Any, data: Series) -> mjp.Graph:
    """The graph of susceptible, infected and recovered boys, from a day before the first count.

    Args:
        contact, recovery: rates per day.
        overdispersion: of the counts of boys in bed.
    """
    network = mjp.ReactionNetwork([("S + I -> 2 I", contact / BOYS), ("I -> R", recovery)], ["S", "I", "R"])
    chain = mjp.chain(network, np.append(0.0, data.times), initial={"S": BOYS - 1, "I": 1, "R": 0})

    def in_bed(boys: Any) -> dist.Distribution:
        return dist.NegativeBinomial2(boys["I"] + 0.1, 1.0 / (jnp.asarray(overdispersion) + LEAST))

    return chain.observe_each(in_bed, None if data.values is None else np.append(np.nan, data.values))


def outbreak(data: Series) -> None:
    """A stochastic epidemic, and negative binomial counts of boys in bed.

    Sites: `contact`, `recovery`, `overdispersion`; `epidemic`, the path of the three counts.
    """
    contact = numpyro.sample("contact", dist.TruncatedNormal(2.0, 1.0, low=0.0))
    recovery = numpyro.sample("recovery", dist.TruncatedNormal(0.4, 0.5, low=0.0))
    overdispersion = numpyro.sample("overdispersion", dist.Exponential(5.0))
    mjp.sample("epidemic", epidemic(contact, recovery, overdispersion, data))
