"""Coronary disease after heart transplant, seen at yearly angiograms.

622 recipients of a heart transplant at Papworth Hospital, U.K. At each visit an angiogram grades cardiac
allograft vasculopathy (CAV), a narrowing of the arteries of the transplanted heart: `well` (no CAV), `mild`
(mild or moderate), `severe`; `dead` is entered at the date of death, which is known to the day. Between
visits the disease is a Markov jump process that nobody watches. Time is in years since the transplant, and
rates are per year.

Two models:

- `transplant`: the grade is what the angiogram says. Patients may recover. 7 rates.
- `misclassified`: the disease only progresses, and an angiogram may be read one grade too high or too low;
  what looks like recovery is then an error of reading. 5 rates and 4 free probabilities of error.

Every rate has the prior log q ~ Normal(-2, 1.5): a median of one transition per 7.4 years, and 95% between
one per 140 years and one per 5 months, which covers what is medically conceivable. An angiogram is read
wrongly with a prior mean of 1 in 10 per neighbouring grade.

Data: Sharples, Jackson, Parameshwar, Wallwork and Large (2003), Diagnostic accuracy of coronary angiopathy
and risk factors for post-heart-transplant cardiac allograft vasculopathy, Transplantation 76(4):679-682.
Models: C. H. Jackson (2011), Multi-state models for panel data: the msm package for R, Journal of
Statistical Software 38(8). The likelihood is conditional on each patient's first state, as in msm.
"""

from collections.abc import Iterable
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.tables import arrows, in_words, read_table

STATES = ("well", "mild", "severe", "dead")
WORDS = dict(zip((1, 2, 3, 4), STATES, strict=True))

TRANSITIONS = (
    ("well", "mild"),
    ("well", "dead"),
    ("mild", "well"),
    ("mild", "severe"),
    ("mild", "dead"),
    ("severe", "mild"),
    ("severe", "dead"),
)
PROGRESSION = (
    ("well", "mild"),
    ("well", "dead"),
    ("mild", "severe"),
    ("mild", "dead"),
    ("severe", "dead"),
)

COORDS = {"transition": arrows(TRANSITIONS)}
COORDS_MISCLASSIFIED = {"transition": arrows(PROGRESSION), "recorded": list(STATES[:3])}


def load(path: str | PathLike | None = None, covariates: Iterable[str] = ()) -> mjp.Panel:
    """The visits, as a panel of 622 subjects and 2846 rows.

    Args:
        path: a CSV file with the columns PTNUM (patient), years (time since transplant) and state (1 to 4,
            or words); default the table in the package.
        covariates: names of further columns to keep, such as `sex` or `dage`.

    Raises:
        ValueError: a column is absent, or a state is unknown.
    """
    covariates = list(covariates)
    frame = read_table("cav.csv", path, ["PTNUM", "years", "state", *covariates])
    frame = frame.assign(state=in_words(frame["state"], WORDS))
    return mjp.Panel.from_frame(frame, subject="PTNUM", time="years", state="state", covariates=covariates)


def disease(rate: Any, visits: mjp.Panel) -> mjp.Graph:
    """The graph of `transplant` at given rates (7,) per year, in the order of `TRANSITIONS`."""
    process = mjp.MarkovJump(dict(zip(TRANSITIONS, rate, strict=True)), STATES)
    return mjp.panel(process, visits, observe=mjp.Exactly(entry="dead"))


def misread_disease(rate: Any, matrix: Any, visits: mjp.Panel) -> mjp.Graph:
    """The graph of `misclassified`.

    Args:
        rate: (5,) per year, in the order of `PROGRESSION`.
        matrix: (4, 4) probability of each recorded grade (columns) given the true one (rows).
        visits: the panel. Each patient's first grade is taken as true.
    """
    process = mjp.MarkovJump(dict(zip(PROGRESSION, rate, strict=True)), STATES)
    return mjp.panel(process, visits, observe=mjp.Misclassified(matrix, entry="dead"))


def misreading(well_as_mild: Any, mild_as: Any, severe_as_mild: Any) -> Array:
    """The (4, 4) matrix of recorded given true grade; grades are confused with their neighbours only.

    Args:
        well_as_mild: probability that `well` is recorded as `mild`.
        mild_as: (3,) probabilities that `mild` is recorded as `well`, `mild` and `severe`.
        severe_as_mild: probability that `severe` is recorded as `mild`.
    """
    zero, one = jnp.zeros_like(well_as_mild), jnp.ones_like(well_as_mild)
    return jnp.stack(
        [
            jnp.stack([1 - well_as_mild, well_as_mild, zero, zero]),
            jnp.append(mild_as, zero),
            jnp.stack([zero, severe_as_mild, 1 - severe_as_mild, zero]),
            jnp.stack([zero, zero, zero, one]),
        ]
    )


def transplant(visits: mjp.Panel) -> None:
    """CAV that can get worse or better, graded without error.

    Sites: `rate` (7,) per year, in the order of `TRANSITIONS`; `disease`, the path.
    """
    rate = numpyro.sample(
        "rate",
        dist.LogNormal(-2.0, 1.5).expand([len(TRANSITIONS)]).to_event(1),
        infer={"event_dims": ["transition"]},
    )
    mjp.sample("disease", disease(rate, visits))


def misclassified(visits: mjp.Panel) -> None:
    """CAV that only gets worse, graded with errors; a patient's first grade is taken as true.

    Sites: `rate` (5,) per year, in the order of `PROGRESSION`; the probabilities `well_as_mild` and
    `severe_as_mild` of a wrong record; `mild_as` (3,), probabilities of the records well, mild and severe of
    a patient who is mild; `disease`, the path.
    """
    rate = numpyro.sample(
        "rate",
        dist.LogNormal(-2.0, 1.5).expand([len(PROGRESSION)]).to_event(1),
        infer={"event_dims": ["transition"]},
    )
    well_as_mild = numpyro.sample("well_as_mild", dist.Beta(1.0, 9.0))
    mild_as = numpyro.sample(
        "mild_as", dist.Dirichlet(jnp.array([1.0, 8.0, 1.0])), infer={"event_dims": ["recorded"]}
    )
    severe_as_mild = numpyro.sample("severe_as_mild", dist.Beta(1.0, 9.0))
    matrix = misreading(well_as_mild, mild_as, severe_as_mild)
    mjp.sample("disease", misread_disease(rate, matrix, visits))


def log_likelihood(log_rates: Any, visits: mjp.Panel) -> Array:
    """Log-likelihood of `transplant`, all patients together, at log-rates (7,)."""
    return mjp.condition(disease(jnp.exp(log_rates), visits)).log_evidence.sum()
