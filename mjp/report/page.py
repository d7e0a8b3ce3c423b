"""Put the sections together into one HTML page."""

import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mjp.report import (
    agents,
    chains,
    fitted,
    guide,
    identification,
    loo,
    model_pictures,
    occupancy,
    particles,
    phase_plane,
    posterior,
    prevalence,
    regimes,
    subjects,
    traits,
    trees,
    vector_series,
    verdict,
)
from mjp.report.parts import Maker, Missing, Section

if TYPE_CHECKING:
    from mjp.fitting import Fit

_SECTIONS: tuple[tuple[str, str, Maker], ...] = (
    ("fitted", "What was fitted", fitted.section),
    ("verdict", "Verdict on convergence", verdict.section),
    ("parameters", "Parameters", posterior.table),
    ("identification", "What the data do not identify", identification.section),
    ("model", "The model", model_pictures.section),
    ("prevalence", "Observed and expected prevalence", prevalence.section),
    ("occupancy", "State occupancy over time", occupancy.section),
    ("subjects", "Paths of subjects", subjects.section),
    ("tree", "States on the tree", trees.section),
    ("series", "States along the series", chains.section),
    ("paths", "Paths along the series", vector_series.section),
    ("regimes", "Regimes under the series", regimes.section),
    ("phase", "Phase plane", phase_plane.section),
    ("agents", "Agents", agents.section),
    ("traits", "Traits on the tree", traits.section),
    ("guide", "Quality of the guide", guide.section),
    ("particles", "Particles", particles.section),
    ("loo", "Leave-one-out cross-validation", loo.section),
    ("chains", "Traces and ranks", posterior.chains),
    ("environment", "Computing environment", fitted.environment),
)


def write_report(fit: "Fit", path: str | Path, title: str | None = None) -> Path:
    """Write a self-contained HTML page about a fit.

    Args:
        fit: the posterior.
        path: file to write; its folder is made if it does not exist.
        title: heading of the page; default the name of the model.

    Returns:
        the path.

    Warns:
        UserWarning: a section could not be made; the page says why.
    """
    from jinja2 import Environment, PackageLoader

    template = Environment(loader=PackageLoader("mjp.report"), autoescape=True).get_template("report.html")
    made = [_make(fit, anchor, name, maker) for anchor, name, maker in _SECTIONS]
    page = template.render(
        title=title or fit.settings["model"],
        sections=[section for section in made if not section.reason],
        absent=[section for section in made if section.reason],
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")
    return file


def _make(fit: "Fit", anchor: str, title: str, maker: Maker) -> Section:
    try:
        return Section(anchor, title, maker(fit))
    except Missing as missing:
        return Section(anchor, title, reason=str(missing))
    except Exception as error:
        # one section that fails must not cost the user the others, nor pass unseen
        reason = f"it could not be made ({type(error).__name__}: {error})"
        warnings.warn(f"report: the section {title!r} is missing: {reason}", stacklevel=3)
        return Section(anchor, title, reason=reason)
