"""Measles in a village, by contacts in households and in classes.

In the winter of 1861 all 188 children of Hagelloch in Germany who had not had measles yet fell ill. For each
child the household, the class at school, and the days of the first symptoms (prodrome), of the rash
(eruption) and perhaps of death were written down. As Neal and Roberts, we take a child to infect others from
the day before its prodrome to three days after its eruption, or to its death. When a child was infected is
not known.

Time goes in days. A child is susceptible S, infected but not yet infectious, in one of four stages E1 to E4,
infectious I, or removed R. At the beginning one child is infectious, and each of the others has been
infected before with a probability of 1%, and is in any of the stages. A child is infected with the rate

    household * (infectious children at home) + classroom * (infectious children in its class) + community

per day; children below school age have no class. It leaves each of the stages with the rate 4 / `latent`,
and I with 1 / `infectious`, so that these two are durations in days but for the length of a step.

Priors, log-normal: `household` around 0.1 and `classroom` around 0.02, with 1 on the log, which is a factor
between 1/7 and 7 with 95%; `community` around 0.005 with 1.5; `latent` around 10 days and `infectious` around
8, with 0.3.

Data: Pfeilsticker (1863), doctoral thesis, Tuebingen; Oesterle (1992); as the data set `hagelloch` of the R
package surveillance. Model: Neal and Roberts (2004), Statistical inference and model selection for the 1861
Hagelloch measles epidemic, Biostatistics 5(2):249-261, with a constant rate in place of distances in the
village, and in discrete time.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import Any

import jax.numpy as jnp
import networkx as nx
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.tables import in_dates, read_table

COLUMNS = ("PN", "HN", "CL", "PRO", "ERU", "DEAD")
NO_CLASS = "preschool"
STAGES = 4
STATES = ("S", *(f"E{stage + 1}" for stage in range(STAGES)), "I", "R")
SEEN = ("well", "ill", "removed")
_BEFORE, _AFTER = 1, 3  # days infectious before the prodrome, and after the eruption
_INFECTED_BEFORE = 0.01  # the first day
_FIRST_DAY = "1861-10-30"  # prodrome of the first child


@dataclass(frozen=True, eq=False)
class Village:
    """Children day by day, from the first on which a child infects others.

    Attributes:
        children: (n,) names. house, classroom: (n,) of each child.
        first: (n,) whether a child is infectious from the beginning.
        status: (days, n) well, ill or removed; None for none at all, to simulate. days: how many.
    """

    children: tuple
    house: tuple
    classroom: tuple
    first: np.ndarray
    status: np.ndarray | None
    days: int

    def networks(self) -> dict[str, nx.Graph]:
        """Contacts at home and in class."""
        found = {}
        for kind, groups in (("household", self.house), ("classroom", self.classroom)):
            network = nx.Graph()
            network.add_nodes_from(self.children)
            members: dict[Any, list] = {}
            for child, group in zip(self.children, groups, strict=True):
                members.setdefault(group, []).append(child)
            for group, own in members.items():
                if (kind, group) != ("classroom", NO_CLASS):
                    network.add_edges_from(nx.complete_graph(own).edges)
            found[kind] = network
        return found


def load(path: str | PathLike | None = None) -> Village:
    """The 188 children on 94 days.

    Args:
        path: a CSV file with the columns PN (child), HN (household), CL (class, or preschool), and the dates
            PRO (prodrome), ERU (eruption) and DEAD (death) as year-month-day; default the table in the
            package. A child without PRO never falls ill; one without ERU and DEAD is ill to the end.

    Raises:
        ValueError: a column is absent, a date cannot be read, a child occurs twice or is removed before it is
            ill, or nobody is ill.
    """
    import pandas  # slow to import, and only needed to read

    frame = read_table("hagelloch.csv", path, COLUMNS)
    children = frame["PN"].tolist()
    twice = [child for child, rows in Counter(children).items() if rows > 1]
    if twice:
        raise ValueError(f"path: child {twice[0]} has several rows; expected one")
    dates = {column: in_dates(frame, column, _FIRST_DAY) for column in COLUMNS[3:]}
    if dates["PRO"].isna().all():
        raise ValueError("path: the column 'PRO' holds no date; expected one for every child that fell ill")
    origin = dates["PRO"].min() - pandas.Timedelta(days=_BEFORE)
    day = {column: (value - origin).dt.days.to_numpy(float) for column, value in dates.items()}
    begin, end = day["PRO"] - _BEFORE, np.fmin(day["ERU"] + _AFTER, day["DEAD"])
    bad = np.flatnonzero(end <= begin)
    if len(bad):
        raise ValueError(f"path: child {children[bad[0]]} is removed before it is ill")
    last = int(np.nanmax(np.append(end, begin)))
    days = np.arange(last + 1)[:, None]
    status = np.where(days >= np.nan_to_num(end, nan=np.inf), SEEN[2], SEEN[1])
    status = np.where(days >= np.nan_to_num(begin, nan=np.inf), status, SEEN[0])
    house, classroom = tuple(frame["HN"].tolist()), tuple(frame["CL"].tolist())
    return Village(tuple(children), house, classroom, begin == 0, status, len(status))


def table(data: Village, values: Any) -> Mapping[str, Any]:
    """Simulated positions (days, n) in `SEEN` as the columns that `load` reads."""
    values = np.asarray(values)
    first = np.datetime64(_FIRST_DAY) - np.timedelta64(_BEFORE, "D")

    def date(reached: np.ndarray, shift: int) -> np.ndarray:
        days = (np.argmax(reached, axis=0) + shift).astype("timedelta64[D]")
        return np.where(reached.any(axis=0), (first + days).astype(str), "")

    begin, end = date(values >= 1, _BEFORE), date(values == 2, -_AFTER)
    nobody = np.full(len(data.children), "")
    columns = (data.children, data.house, data.classroom, begin, end, nobody)
    return dict(zip(COLUMNS, columns, strict=True))


def outbreak(
    household: Any, classroom: Any, community: Any, latent: Any, infectious: Any, data: Village
) -> mjp.Graph:
    """The graph of all children, day by day.

    Args:
        household, classroom: rates of infection per day and infectious child. community: rate per day.
        latent, infectious: mean durations in days.
    """
    parameters = {
        "household": household,
        "classroom": classroom,
        "community": community,
        "stage": STAGES / jnp.asarray(latent),
        "removal": 1.0 / jnp.asarray(infectious),
    }
    process = mjp.InteractingParticles(data.networks(), _day, STATES, parameters=parameters)
    others = np.array([1.0 - _INFECTED_BEFORE, *[_INFECTED_BEFORE / STAGES] * STAGES, 0.0, 0.0])
    first = np.where(data.first[:, None], np.array(STATES) == "I", others)
    seen = np.zeros((len(STATES), len(SEEN)))
    seen[np.arange(len(STATES)), [0] * (1 + STAGES) + [1, 2]] = 1.0
    chain = mjp.chain(process, np.arange(data.days), initial=dist.Categorical(jnp.asarray(first)))
    return chain.observe_each(mjp.Misclassified(seen, labels=SEEN), data.status)


def _day(neighbours: Mapping, at: Mapping) -> dict[tuple[str, str], Array]:
    happens = lambda rate: -jnp.expm1(-rate * at["duration"])
    kinds = ("household", "classroom")
    infection = sum((at[kind] * neighbours[kind]["I"] for kind in kinds), at["community"])
    stages = dict.fromkeys(pairwise(STATES[1:-1]), happens(at["stage"]))
    return {("S", "E1"): happens(infection), **stages, ("I", "R"): happens(at["removal"])}


def measles(data: Village) -> None:
    """An epidemic in households and classes, whose infections nobody saw.

    Sites: `household`, `classroom` and `community`, rates of infection per day; `latent` and `infectious`,
    mean durations in days; `epidemic`, the states of all children on all days.
    """
    laws = {
        "household": dist.LogNormal(jnp.log(0.1), 1.0),
        "classroom": dist.LogNormal(jnp.log(0.02), 1.0),
        "community": dist.LogNormal(jnp.log(0.005), 1.5),
        "latent": dist.LogNormal(jnp.log(10.0), 0.3),
        "infectious": dist.LogNormal(jnp.log(8.0), 0.3),
    }
    drawn: dict[str, Any] = {name: numpyro.sample(name, law) for name, law in laws.items()}
    mjp.sample("epidemic", outbreak(**drawn, data=data))
