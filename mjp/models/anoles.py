"""Habitat specialists among the anole lizards of the Greater Antilles, evolving along their phylogeny.

82 species, each of one of six ecomorphs named after where it lives: crown-giant, grass-bush, trunk-crown,
trunk-ground, trunk, twig. The ecomorph of a lineage is a Markov jump process on the branches of a fixed,
dated tree (the Mk model): `er` with one rate for every change, `symmetric` with one rate per pair of
ecomorphs, the same in both directions. All ecomorphs are equally likely at the root. Branch lengths are in
units of a sixth of the tree's height, and rates are per that unit: a lineage that runs from the root to a
tip is 6 long.

Priors: a rate has log q ~ Normal(-3.5, 1); with five possible changes a lineage then changes 0.9 times
between root and tip in the median, 95% between 0.13 and 6.4 times. 82 tips cannot tell 15 rates apart, so in
`symmetric` these are drawn around a `typical_rate` that has the same prior, with a `spread` of their logs
that is half-normal with scale 1; zero spread is the model `er`.

Data: Mahler, Revell, Glor and Losos (2010), Ecological opportunity and the rate of morphological evolution
in the diversification of Greater Antillean anoles, Evolution 64:2731-2745. Model: Lewis (2001), A likelihood
approach to estimating phylogeny from discrete morphological character data, Systematic Biology 50:913-925.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.tables import in_words, read_table, read_text

WORDS = {
    "CG": "crown-giant",
    "GB": "grass-bush",
    "TC": "trunk-crown",
    "TG": "trunk-ground",
    "Tr": "trunk",
    "Tw": "twig",
}
STATES = tuple(WORDS.values())
PAIRS = tuple(combinations(STATES, 2))
COORDS = {"pair": [f"{one} <-> {other}" for one, other in PAIRS]}


@dataclass(frozen=True, eq=False)
class Species:
    """A phylogeny and what is known of its tips.

    Attributes:
        newick: the tree, with branch lengths.
        ecomorph: by species; None where it is not known.
    """

    newick: str
    ecomorph: Mapping[Hashable, str | None]


def load(path: str | PathLike | None = None, tree: str | PathLike | None = None) -> Species:
    """The tree and the ecomorphs of its 82 tips.

    Args:
        path: a CSV file with the columns species and ecomorph (CG, GB, TC, TG, Tr, Tw, or words); default
            the table in the package.
        tree: a Newick file whose tips are these species; default the tree in the package.

    Raises:
        ValueError: a column is absent, a species is named twice, or an ecomorph is unknown.
    """
    frame = read_table("anole_ecomorph.csv", path, ["species", "ecomorph"])
    species = frame["species"].tolist()
    if len(set(species)) < len(species):
        twice = next(name for name in species if species.count(name) > 1)
        raise ValueError(f"path: the species {twice!r} is named twice; expected one row per species")
    ecomorph = dict(zip(species, in_words(frame["ecomorph"], WORDS), strict=True))
    return Species(read_text("anole_tree.nwk", tree), ecomorph)


def evolution(rate: Any, tree_data: Species) -> mjp.Graph:
    """The graph at given rates: one for all changes, or (15,) in the order of `PAIRS`."""
    per_pair = jnp.broadcast_to(rate, (len(PAIRS),))
    rates = {}
    for (one, other), q in zip(PAIRS, per_pair, strict=True):
        rates[one, other] = rates[other, one] = q
    root = dist.Categorical(jnp.full(len(STATES), 1 / len(STATES)))
    tree = mjp.tree(tree_data.newick, mjp.MarkovJump(rates, STATES), initial=root)
    return tree.observe_each(mjp.Exactly(), tree_data.ecomorph)


def er(tree_data: Species) -> None:
    """Equal rates: every change is as likely as any other.

    Sites: `rate` of a change to one given ecomorph, per unit of branch length; `ecomorph`, the path.
    """
    rate = numpyro.sample("rate", dist.LogNormal(-3.5, 1.0))
    mjp.sample("ecomorph", evolution(rate, tree_data))


def symmetric(tree_data: Species) -> None:
    """One rate per pair of ecomorphs, the same in both directions, pooled through a common law.

    Sites: `typical_rate`; `spread`, the standard deviation of the log-rates around it; `deviation` (15,),
    standard normal; `rate` (15,) per unit of branch length, in the order of `PAIRS`; `ecomorph`, the path.
    """
    typical = numpyro.sample("typical_rate", dist.LogNormal(-3.5, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    # Deviations rather than rates are sampled, because rates and their spread depend on each other strongly.
    deviation = numpyro.sample(
        "deviation",
        dist.Normal(0.0, 1.0).expand([len(PAIRS)]).to_event(1),
        infer={"event_dims": ["pair"]},
    )
    rate = numpyro.deterministic("rate", typical * jnp.exp(spread * deviation))
    mjp.sample("ecomorph", evolution(rate, tree_data))


def log_likelihood(log_rates: Any, tree_data: Species) -> Array:
    """Log-likelihood at log-rates (1,) of `er`, or (15,) of `symmetric`."""
    return mjp.condition(evolution(jnp.exp(log_rates), tree_data)).log_evidence.sum()
