"""Joint damage in psoriatic arthritis, with clinical signs that speed it up or slow it down.

305 patients of a clinic in Toronto. The state counts permanently damaged joints: `none`, `1-4 joints`,
`5-9 joints`, `10+ joints`; damage does not heal, so the process only moves up. Two signs are recorded at
each visit and held until the next: five or more effusions (`hieffusn`), and an erythrocyte sedimentation
rate below 15 mm/h (`ollwsdrt`). They multiply the rates; the effect of effusions is the same on all three
transitions, that of a low sedimentation rate is the same on the first two and free on the third. Time is in
the unit that the source calls months, and rates are per that unit.

Priors: a rate at which neither sign is present has log q ~ Normal(-2.5, 1), a median of one transition per
12 months and 95% between one per 7 years and one per 2 months. Effects on the log-rate are Normal(0, 1): a
sign changes a rate by a factor between 1/7 and 7 with 95%.

Data and model: Gladman and Farewell (1999), Progression in psoriatic arthritis: role of time-varying
clinical indicators, Journal of Rheumatology 26(11):2409-2413; parametrised as in the example of `psor` in
the R package msm. The likelihood is conditional on each patient's first state.
"""

from itertools import pairwise
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array

import mjp
from mjp.models.tables import arrows, in_words, read_table

STATES = ("none", "1-4 joints", "5-9 joints", "10+ joints")
WORDS = dict(zip((1, 2, 3, 4), STATES, strict=True))
TRANSITIONS = tuple(pairwise(STATES))
COORDS = {"transition": arrows(TRANSITIONS), "stage": ["below 10 joints", "to 10+ joints"]}


def load(path: str | PathLike | None = None, covariates: bool = True) -> mjp.Panel:
    """The visits, as a panel.

    Args:
        path: a CSV file with the columns ptnum (patient), months, state (1 to 4, or words), hieffusn and
            ollwsdrt (0 or 1); default the table in the package.
        covariates: keep the two signs, and leave out the rows in which one is missing: 720 rows of 271
            patients remain. Without covariates there are 806 rows of 305 patients.

    Raises:
        ValueError: a column is absent, or a state is unknown.
    """
    signs = ["hieffusn", "ollwsdrt"] if covariates else []
    frame = read_table("psor.csv", path, ["ptnum", "months", "state", *signs])
    frame = frame.assign(state=in_words(frame["state"], WORDS))
    return mjp.Panel.from_frame(
        frame, subject="ptnum", time="months", state="state", covariates=signs, drop_missing=True
    )


def damage(rate: Any, visits: mjp.Panel, effusions: Any = None, low_sedimentation: Any = None) -> mjp.Graph:
    """The graph of the model.

    Args:
        rate: (3,) rates without any sign, in the order of `TRANSITIONS`.
        visits: the panel.
        effusions: effect of `hieffusn` on every log-rate; None for a model without covariates.
        low_sedimentation: (2,) effects of `ollwsdrt` on the first two log-rates and on the third.
    """
    if effusions is None or low_sedimentation is None:
        process = mjp.MarkovJump(dict(zip(TRANSITIONS, rate, strict=True)), STATES)
        return mjp.panel(process, visits, observe=mjp.Exactly())

    def rates(signs: Any) -> dict:
        always = effusions * signs["hieffusn"]
        early, late = jnp.exp(always + low_sedimentation * signs["ollwsdrt"])
        return dict(zip(TRANSITIONS, [rate[0] * early, rate[1] * early, rate[2] * late], strict=True))

    return mjp.panel(mjp.MarkovJump(rates, STATES), visits, observe=mjp.Exactly())


def progression(visits: mjp.Panel) -> None:
    """Damage that only grows, at rates that depend on two signs.

    Sites: `rate` (3,) per month without any sign; `effusions`, the effect of five or more effusions on the
    log-rates; `low_sedimentation` (2,), the effects of a low sedimentation rate below and to 10 joints;
    `damage`, the path.
    """
    rate = numpyro.sample(
        "rate",
        dist.LogNormal(-2.5, 1.0).expand([len(TRANSITIONS)]).to_event(1),
        infer={"event_dims": ["transition"]},
    )
    effusions = numpyro.sample("effusions", dist.Normal(0.0, 1.0))
    low_sedimentation = numpyro.sample(
        "low_sedimentation",
        dist.Normal(0.0, 1.0).expand([2]).to_event(1),
        infer={"event_dims": ["stage"]},
    )
    mjp.sample("damage", damage(rate, visits, effusions, low_sedimentation))


def log_likelihood(parameters: Any, visits: mjp.Panel) -> Array:
    """Log-likelihood, all patients together.

    Args:
        parameters: (3,) log-rates, for a model without covariates; or (6,), followed by the effect of
            effusions and the two effects of a low sedimentation rate.
        visits: the panel, from `load(covariates=False)` or `load()`.
    """
    effects = (parameters[3], parameters[4:]) if len(parameters) > 3 else ()
    return mjp.condition(damage(jnp.exp(parameters[:3]), visits, *effects)).log_evidence.sum()
