"""Body sizes of anole lizards, evolving along their phylogeny.

The log of the snout-to-vent length, in mm, of 82 species of the Greater Antilles, on the dated tree of
`mjp.models.anoles`, whose branch lengths are in units of a sixth of its height. The sizes of the tips are
known, so that the process is conditioned exactly.

- `brownian`: log size is a Brownian motion, with variance `rate` per unit of branch length.
- `ornstein_uhlenbeck`: log size is also drawn towards an `optimum`, half of the way in `half_life`. The root
  has the stationary law.
- `optima_by_clade`: three clades, named by `CLADES`, have optima of their own.

Priors: `rate` is log-normal around 0.04 with 1 on the log. Sizes then differ between root and tip by a
factor exp(0.5) in the middle, and 95% of the prior is between exp(0.18) and exp(1.3). The size of the root
under Brownian motion, and the optimum, are Normal(4, 0.5) on the log: 55 mm, 95% between 20 and 150 mm.
`half_life` is log-normal around 3, half of the height of the tree, with 1 on the log: 95% between a
fourteenth of the height, where relatives are hardly more alike than strangers, and 3.5 times the height,
where it can hardly be told from Brownian motion. The `difference` of a clade's optimum is Normal(0, 1).

Data: Mahler, Revell, Glor and Losos (2010), Ecological opportunity and the rate of morphological evolution
in the diversification of Greater Antillean anoles, Evolution 64:2731-2745. Models: Felsenstein (1985),
Phylogenies and the comparative method, American Naturalist 125:1-15; Hansen (1997), Stabilizing selection and
the comparative analysis of adaptation, Evolution 51:1341-1351.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.tables import read_table, read_text

COLUMNS = ("species", "SVL")
# crown giants of Cuba, crown giants of Hispaniola and Puerto Rico, and the small bush anoles of Cuba
CLADES = {
    "equestris group": ["equestris", "noblei"],
    "ricordii group": ["ricordii", "cuvieri"],
    "alutaceus group": ["alutaceus", "vanidicus"],
}
COORDS = {"clade": list(CLADES)}


@dataclass(frozen=True, eq=False)
class Sizes:
    """A phylogeny and the sizes at its tips.

    Attributes:
        newick: the tree, with branch lengths.
        log_size: by species; NaN where it is not known.
    """

    newick: str
    log_size: Mapping[Hashable, float]


def load(path: str | PathLike | None = None, tree: str | PathLike | None = None) -> Sizes:
    """The tree and the log sizes of its 82 tips.

    Args:
        path: a CSV file with the columns species and SVL (log of mm); default the table in the package.
        tree: a Newick file whose tips are these species; default the tree in the package.

    Raises:
        ValueError: a column is absent, or a species is named twice.
    """
    frame = read_table("anole_traits.csv", path, COLUMNS)
    species = frame["species"].tolist()
    if len(set(species)) < len(species):
        twice = next(name for name in species if species.count(name) > 1)
        raise ValueError(f"path: the species {twice!r} is named twice; expected one row per species")
    return Sizes(
        read_text("anole_tree.nwk", tree), dict(zip(species, frame["SVL"].to_numpy(float), strict=True))
    )


def wandering(rate: Any, data: Sizes, initial: Any = None) -> mjp.Graph:
    """The graph of a Brownian motion with variance `rate` per unit of branch length.

    Args:
        initial: law, or value, of the root; default the prior of `brownian`.
    """
    process = mjp.LinearDiffusion(0.0, dispersion=jnp.sqrt(rate))
    law = dist.Normal(4.0, 0.5) if initial is None else initial
    return mjp.tree(data.newick, process, initial=law).observe_each(mjp.Exactly(), data.log_size)


def attracted(rate: Any, half_life: Any, optimum: Any, data: Sizes) -> mjp.Graph:
    """The graph of a stationary Ornstein-Uhlenbeck process."""
    pull = jnp.log(2.0) / half_life
    process = mjp.LinearDiffusion(-pull, pull * optimum, jnp.sqrt(rate))
    stationary = dist.Normal(optimum, jnp.sqrt(rate / (2 * pull)))
    return mjp.tree(data.newick, process, initial=stationary).observe_each(mjp.Exactly(), data.log_size)


def with_optima(rate: Any, half_life: Any, optima: Any, data: Sizes) -> mjp.Graph:
    """The graph of an Ornstein-Uhlenbeck process with an optimum for each clade of `CLADES`.

    Args:
        optima: (1 + number of clades,), the first for lineages in none of them; the root is stationary there.
    """
    pull = jnp.log(2.0) / half_life
    process = mjp.LinearDiffusion(-pull, lambda c: pull * optima[c["clade"]], jnp.sqrt(rate))
    stationary = dist.Normal(optima[0], jnp.sqrt(rate / (2 * pull)))
    painted = {"clade": mjp.regimes(data.newick, CLADES)}
    tree = mjp.tree(data.newick, process, initial=stationary, covariates=painted)
    return tree.observe_each(mjp.Exactly(), data.log_size)


def brownian(data: Sizes) -> None:
    """Sizes that wander without a preferred value.

    Sites: `rate`, the variance of log size per unit of branch length; `log_size`, the path.
    """
    rate = numpyro.sample("rate", dist.LogNormal(jnp.log(0.04), 1.0))
    mjp.sample("log_size", wandering(rate, data))


def ornstein_uhlenbeck(data: Sizes) -> None:
    """Sizes that wander around an optimum.

    Sites: `rate`, the variance of log size per unit of branch length, without the pull; `half_life`, the
    branch length in which half of the way to the optimum is gone; `optimum`; `log_size`, the path.
    """
    rate = numpyro.sample("rate", dist.LogNormal(jnp.log(0.04), 1.0))
    half_life = numpyro.sample("half_life", dist.LogNormal(jnp.log(3.0), 1.0))
    optimum = numpyro.sample("optimum", dist.Normal(4.0, 0.5))
    mjp.sample("log_size", attracted(rate, half_life, optimum, data))


def optima_by_clade(data: Sizes) -> None:
    """Sizes that wander around an optimum, which two clades of giants and one of dwarfs have of their own.

    Sites: `rate`, `half_life` and `optimum`, of lineages in no clade, as in `ornstein_uhlenbeck`;
    `difference` of the optimum of each clade of `CLADES`; `log_size`, the path.
    """
    rate = numpyro.sample("rate", dist.LogNormal(jnp.log(0.04), 1.0))
    half_life = numpyro.sample("half_life", dist.LogNormal(jnp.log(3.0), 1.0))
    optimum = numpyro.sample("optimum", dist.Normal(4.0, 0.5))
    difference = numpyro.sample("difference", dist.Normal(0.0, 1.0).expand([len(CLADES)]).to_event(1))
    optima = optimum + jnp.append(0.0, difference)
    mjp.sample("log_size", with_optima(rate, half_life, optima, data))


def log_likelihood(rate: Any, data: Sizes, root: Any) -> Array:
    """Log-likelihood of `brownian` at a rate and the log size of the root."""
    return mjp.condition(wandering(rate, data, jnp.reshape(root, (1,)))).log_evidence
