"""Lynx and snowshoe hare around Hudson Bay, as a predator-prey jump process on counts.

The pelts of `mjp.models.lynx_hare`. The state counts hares H and lynx L in units of 500 pelts, and every
event changes a count by one unit:

    H -> 2 H           at rate birth per year,
    H + L -> L         at rate predation / 2 per pair and year,
    H + L -> H + 2 L   at rate growth / 2 per pair and year,
    L -> 0             at rate death per year,

where predation and growth are per thousand, as in the diffusion, so that both have the same drift. The unit
says how many animals live and die as one, and with it how noisy the cycle is. Pelts are log-normal around the
counts plus half a unit, which keeps a record possible where a species has died out.

Priors: `birth` and `death` are Normal(1, 0.5), positive; `predation` and `growth` are Normal(0.05, 0.05),
positive, all as in `mjp.models.lynx_hare`; the errors of the logs of the pelts are log-normal around
exp(-1.4), a quarter, with 0.3 on the log: nearly without error, the record would have to be hit by chance.
The first counts are geometric with a mean of 10 thousand.
"""

from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

import mjp
from mjp.models.lynx_hare import COLUMNS, SPECIES, load
from mjp.models.series import Series

COORDS = {"species": list(SPECIES), "numbers_event_0": ["hare pelts", "lynx pelts"]}
PER_THOUSAND = 2  # units of the state
MOST_EVENTS = 2000  # of a year

__all__ = ["COLUMNS", "COORDS", "load", "populations", "predation_events"]


def populations(rates: Any, error: Any, data: Series) -> mjp.Graph:
    """The graph of the counts of hares and lynx, in units of 500 pelts.

    Args:
        rates: birth, predation, growth and death.
        error: (2,) standard deviations of the logs of the pelts.
    """
    birth, predation, growth, death = rates
    network = mjp.ReactionNetwork(
        [
            ("H -> 2 H", birth),
            ("H + L -> L", predation / PER_THOUSAND),
            ("H + L -> H + 2 L", growth / PER_THOUSAND),
            ("L -> 0", death),
        ],
        ["H", "L"],
    )
    mean = 10.0 * PER_THOUSAND
    first = dist.NegativeBinomial2(jnp.full(2, mean), 1.0).to_event(1)
    chain = mjp.chain(network, data.times, initial=first)

    def pelts(counts: Any) -> dist.Distribution:
        return dist.LogNormal(jnp.log((counts + 0.5) / PER_THOUSAND), error).to_event(1)

    return chain.observe_each(pelts, data.values)


def predation_events(data: Series) -> None:
    """Lotka-Volterra events, and log-normal pelts.

    Sites: `birth`, `predation`, `growth`, `death`; `error` (2,) of hare and lynx; `numbers`, the path of the
    counts of both, in units of 500 pelts.
    """
    positive = lambda loc, scale: dist.TruncatedNormal(loc, scale, low=0.0)
    birth = numpyro.sample("birth", positive(1.0, 0.5))
    predation = numpyro.sample("predation", positive(0.05, 0.05))
    growth = numpyro.sample("growth", positive(0.05, 0.05))
    death = numpyro.sample("death", positive(1.0, 0.5))
    per_species = {"event_dims": ["species"]}
    error = numpyro.sample("error", dist.LogNormal(-1.4, 0.3).expand([2]).to_event(1), infer=per_species)
    rates = (birth, predation, growth, death)
    mjp.sample("numbers", populations(rates, error, data), max_events=MOST_EVENTS)
