"""What the data say about each parameter, and what only the prior says."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro.distributions import constraints

from mjp.inference import identifiability
from mjp.numpyro_bridge import structure
from mjp.report.parts import Missing, Paragraph, Part, Table, listed, percent
from mjp.report.paths import flat

if TYPE_CHECKING:
    from mjp.fitting import Fit

_NONE, _WEAK, _TIED = 0.1, 0.5, 0.95
_ROWS = 20


def section(fit: "Fit") -> list[Part]:
    if "prior" not in fit.data:
        raise Missing("there are no prior draws to compare with")
    names, scales, prior, posterior = scaled_draws(fit)
    contraction = 1 - posterior.var(axis=0) / prior.var(axis=0)
    order = np.argsort(contraction)
    rows = []
    for i in order:
        change = (posterior[:, i].mean() - prior[:, i].mean()) / prior[:, i].std()
        rows.append(
            [
                names[i],
                scales[i],
                percent(max(float(contraction[i]), 0.0)),
                f"{change:+.1f}",
                _word(float(contraction[i])),
            ]
        )
    weak = [names[i] for i in order if contraction[i] < _WEAK]
    marked = frozenset(range(len(weak)))
    parts: list[Part] = []
    if weak:
        text = (
            f"The data say little about {listed(weak, 8)}: there the posterior is mostly the prior, and "
            "another prior would give another answer. Check these priors, or simplify the model."
        )
        parts.append(Paragraph(text, "bad"))
    else:
        parts.append(Paragraph("Every parameter is known much better after the data than before.", "good"))
    tied = _tied(names, posterior)
    if tied:
        text = f"Known only together, with correlations beyond {_TIED}: {listed(tied, 6)}."
        parts.append(Paragraph(text, "bad"))
    caption = (
        "Contraction: by how much the variance shrinks from prior to posterior, on the scale named. Shift: "
        "from the prior's mean to the posterior's, in prior standard deviations."
    )
    parts.append(Table(["parameter", "scale", "contraction", "shift", "the data"], rows, caption, marked))
    return parts + _transitions(fit)


def _transitions(fit: "Fit") -> list[Part]:
    """What the data alone say about every transition of a jump process, the priors left aside."""
    parts: list[Part] = []
    for name, graph in fit.graphs.items():
        try:
            found = identifiability(graph)
        except TypeError:  # not a single jump process with named or dense rates
            continue
        label = [f"{a} -> {b}" for a, b in (one.transition for one in found)]
        poor = [words for words, one in zip(label, found, strict=True) if not one.identified]
        if poor:
            text = f"{name}: were every transition rate free, the data alone would not determine that of "
            text += f"{listed(poor, 6)}."
            tied = sum(int(np.prod(values.shape[2:])) for values in fit.parameters.values()) < len(found)
            text += " The model has fewer parameters than transitions, and ties them." if tied else ""
            parts.append(Paragraph(text, "note" if tied else "bad"))
        rows = [
            [words, f"{one.standard_error:.2f}", " -> ".join(map(str, one.confused_with or ["none"]))]
            for words, one in zip(label, found, strict=True)
        ]
        caption = "From the information in the data at the posterior mean, without the prior."
        marked = frozenset(i for i, one in enumerate(found) if not one.identified)
        header = ["transition", "standard error of its log-rate", "confused with"]
        if len(rows) <= _ROWS:
            parts.append(Table(header, rows, caption, marked))
    return parts


def scaled_draws(fit: "Fit") -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """Labels and scales of all parameters, and their prior and posterior draws on these scales.

    Returns:
        labels, scales; prior draws (m, parameters), posterior draws (n, parameters).
    """
    names, scales, columns = [], [], ([], [])
    for site, found in structure(fit.model, fit.args, fit.kwargs, jax.random.key(0)).items():
        if site not in fit.parameters:
            continue  # innovations of a guided path
        scale, transform = _scale(found["fn"].support)
        labels = _labels(site, fit.data["posterior"][site])
        names += labels
        scales += [scale] * len(labels)
        for group, column in zip(("prior", "posterior"), columns, strict=True):
            values = flat(fit.data[group][site])
            column.append(transform(values.reshape(len(values), -1)))
    prior, posterior = (np.concatenate(column, axis=1) for column in columns)
    return names, scales, prior, posterior


def _scale(support: Any) -> tuple[str, Any]:
    """A scale without bounds for the entries of a site: its name, and the transformation to it."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    tiny = np.finfo(float).tiny
    if support in (constraints.positive, constraints.nonnegative, constraints.softplus_positive):
        return "log", lambda x: np.log(np.maximum(x, tiny))
    if support in (constraints.unit_interval, constraints.simplex):
        return "logit", lambda x: np.log(np.maximum(x, tiny)) - np.log(np.maximum(1 - x, tiny))
    return "as is", lambda x: x


def _labels(site: str, array: Any) -> list[str]:
    """Labels as in ArviZ's tables: `rate[well -> mild]`."""
    shape = array.shape[2:]
    axes = [array.coords[dim].values if dim in array.coords else range(n)
            for dim, n in zip(array.dims[2:], shape, strict=True)]  # fmt: skip
    labels = [
        ", ".join(str(axis[i]) for axis, i in zip(axes, index, strict=True)) for index in np.ndindex(*shape)
    ]
    return [f"{site}[{label}]" if label else site for label in labels]


def _word(contraction: float) -> str:
    if contraction < _NONE:
        return "say nothing"
    return "say little" if contraction < _WEAK else "decide"


def _tied(names: list[str], posterior: np.ndarray) -> list[str]:
    if posterior.shape[1] < 2 or posterior.shape[1] > 200:
        return []
    correlation = np.corrcoef(posterior, rowvar=False)
    pairs = np.argwhere(np.triu(np.abs(correlation) > _TIED, 1)).tolist()
    return [f"{names[i]} with {names[j]} ({correlation[i, j]:+.2f})" for i, j in pairs]
