"""Lynx and snowshoe hare around Hudson Bay, as a predator-prey diffusion.

Pelts, in thousands, that trappers sold to the Hudson's Bay Company in 21 years, 1900 to 1920. Hares H and
lynx L follow the Lotka-Volterra equations with noise in proportion to the numbers (Itô),

    dH = H (birth - predation L) dt + hare_noise H dW_1,
    dL = L (growth H - death) dt + lynx_noise L dW_2,

whose logs have additive noise, and drifts less half of its variance. The logs are stepped by Euler-Maruyama
with ten steps per year, which is part of the model. Pelts are log-normal around the numbers.

Priors, of Carpenter's case study where it has them: `birth` and `death` per year are Normal(1, 0.5),
positive; `predation` and `growth` per year and thousand are Normal(0.05, 0.05), positive; the errors of the
logs of the pelts are log-normal around exp(-1), with 1 on the log. The first numbers are log-normal around
10 thousand, with 1 on the log. The noise of the logs is half-normal with scale 0.3 per square root of a year.

Data: Howard (2009), Modeling basics, lecture notes, after Elton and Nicholson (1942), The ten-year cycle in
numbers of the lynx in Canada, Journal of Animal Ecology 11(2):215-244. Model without noise: Carpenter
(2018), Predator-prey population dynamics: the Lotka-Volterra model in Stan.
"""

from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.series import Series, read_series

COLUMNS = ("year", "hare_thousands", "lynx_thousands")
SPECIES = ("hare", "lynx")
COORDS = {
    "species": list(SPECIES),
    "log_numbers_coordinate": ["log hare", "log lynx"],
    "log_numbers_event_0": ["hare pelts", "lynx pelts"],
}
STEPS = 10


def load(path: str | PathLike | None = None) -> Series:
    """The pelts of 21 years; values (n, 2), hare and lynx.

    Args:
        path: a CSV file with the columns year, hare_thousands and lynx_thousands; default the table in the
            package.

    Raises:
        ValueError: a column is absent, a year occurs twice, a number of pelts is not positive.
    """
    series = read_series("lynx_hare_hudson_bay_1900_1920.csv", path, "year", COLUMNS[1:])
    if series.values is not None and (series.values <= 0).any():
        raise ValueError("path: expected positive numbers of pelts")
    return series


def populations(rates: Any, noise: Any, error: Any, data: Series, steps: int = STEPS) -> mjp.Graph:
    """The graph of the logs of hares and lynx in thousands.

    Args:
        rates: birth, predation, growth and death.
        noise: (2,) of hare and lynx, per square root of a year.
        error: (2,) standard deviations of the logs of the pelts.
        steps: of the discretisation, per interval between two rows.
    """
    birth, predation, growth, death = rates

    def drift(_: Any, x: Array) -> Array:
        hare, lynx = jnp.exp(x)
        return jnp.stack([birth - predation * lynx, growth * hare - death]) - noise**2 / 2

    process = mjp.Diffusion(drift, noise, dim=2)
    first = dist.Normal(jnp.full(2, jnp.log(10.0)), 1.0).to_event(1)
    chain = mjp.chain(process, data.times, initial=first, steps=steps)
    return chain.observe_each(lambda x: dist.LogNormal(x, error).to_event(1), data.values)


def predation_cycle(data: Series, steps: int = STEPS) -> None:
    """Lotka-Volterra dynamics with noise in proportion to the numbers, and log-normal pelts.

    Sites: `birth`, `predation`, `growth`, `death`; `noise` (2,) and `error` (2,) of hare and lynx;
    `log_numbers`, the path of the logs of both, in thousands.
    """
    positive = lambda loc, scale: dist.TruncatedNormal(loc, scale, low=0.0)
    birth = numpyro.sample("birth", positive(1.0, 0.5))
    predation = numpyro.sample("predation", positive(0.05, 0.05))
    growth = numpyro.sample("growth", positive(0.05, 0.05))
    death = numpyro.sample("death", positive(1.0, 0.5))
    per_species = {"event_dims": ["species"]}
    noise = numpyro.sample("noise", dist.HalfNormal(0.3).expand([2]).to_event(1), infer=per_species)
    error = numpyro.sample("error", dist.LogNormal(-1.0, 1.0).expand([2]).to_event(1), infer=per_species)
    mjp.sample("log_numbers", populations((birth, predation, growth, death), noise, error, data, steps))
