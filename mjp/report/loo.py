"""Leave-one-out cross-validation by Pareto-smoothed importance sampling."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.numpyro_bridge import has_agent_path, has_jump_path
from mjp.report.parts import Missing, Paragraph, Part, Table, listed
from mjp.report.vectors import is_guided

if TYPE_CHECKING:
    from mjp.fitting import Fit


def section(fit: "Fit") -> list[Part]:
    if "log_likelihood" not in fit.data or not fit.data["log_likelihood"].data_vars:
        raise Missing("the model has no observed site, so that there is no log-likelihood")
    terms = fit.data["log_likelihood"]
    names = [str(name) for name in terms.data_vars]
    if all(np.prod(terms[name].shape[2:]) < 2 for name in names):
        raise Missing("the likelihood is a single number, so that nothing can be left out")
    if int(np.prod(next(iter(fit.samples.values())).shape[:2])) < 100:
        raise Missing("leave-one-out needs at least 100 draws")
    parts: list[Part] = []
    for name in names:
        parts += _one(fit, name, terms[name])
    return parts


def _few_densities(name: str, path: str) -> Paragraph:
    text = (
        f"{name}: given {path}, which is sampled, an observation has one of a few densities, so that "
        "importance weights cannot leave it out."
    )
    return Paragraph(text, "note")


def _one(fit: "Fit", name: str, terms: Any) -> list[Part]:
    import arviz
    from arviz_base import from_dict

    graph = fit.graphs.get(name)
    if graph is not None and has_agent_path(graph):
        return [_few_densities(name, "the path of its agents")]
    what, labels = _members(fit, name, terms)
    values = np.asarray(terms).reshape(*terms.shape[:2], -1)
    # what was not observed has the same term in every draw, and cannot be left out
    told = np.ptp(values, axis=(0, 1)) > 0
    values, labels = values[..., told], [label for label, kept in zip(labels, told, strict=True) if kept]
    n = values.shape[-1]
    if n < 2:
        text = f"{name}: the likelihood is a single number, so that nothing can be left out."
        return [Paragraph(text, "note")]
    if not np.isfinite(values).all():
        return [Paragraph(f"{name}: some pointwise log-likelihoods are not finite.", "note")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # large Pareto k are told in words below
        try:
            result: Any = arviz.loo(
                from_dict({"posterior": fit.shown, "log_likelihood": {name: values}}), pointwise=True
            )
        except ValueError:  # of tails in which all values are the same
            return [_few_densities(name, "the path")]
    k = np.asarray(result.pareto_k).reshape(-1)
    good = float(result.good_k)
    classes = [
        (f"up to {good:.2f}", "good", k <= good),
        (f"{good:.2f} to 1", "bad", (k > good) & (k <= 1)),
        ("above 1", "very bad", k > 1),
    ]
    rows = [[*words, str(inside.sum()), f"{100 * inside.mean():.1f}%"] for *words, inside in classes]
    parts: list[Part] = [
        Paragraph(
            f"{name}: the expected log predictive density of {n} {what}, each left out in turn, is "
            f"{result.elpd:.1f} (standard error {result.se:.1f}), with {result.p:.1f} effective parameters."
        ),
        Table(["Pareto k", "", "number", "share"], rows, "How far the importance weights can be trusted."),
    ]
    bad = np.argsort(-k)[: int((k > good).sum())]
    if len(bad):
        who = listed([labels[i] for i in bad])
        text = f"The estimate is unreliable for {who}: the posterior without them differs much from this one."
        parts.append(Paragraph(text, "bad"))
    else:
        parts.append(Paragraph("All Pareto k are good: the estimate can be trusted.", "good"))
    if not told.all():
        parts.append(
            Paragraph(f"{(~told).sum()} {what} about which the data say nothing are left out.", "note")
        )
    if graph is not None and graph.kind == "chain" and not graph.batch_shape:
        if is_guided(fit, name) or has_jump_path(graph):
            text = (
                "The terms are densities of the observations given the path, which is sampled. Leaving one "
                "out leaves its neighbours to tell the path there: the number is about filling gaps in this "
                "series, not about the future or an unseen series."
            )
        else:
            text = (
                "The terms are one-step-ahead densities given the past. Leaving one out does not take its "
                "value from the pasts of later ones, so that models of the same series may be compared, but "
                "the number is not the density of an unseen series."
            )
        parts.append(Paragraph(text, "note"))
    return parts


def _members(fit: "Fit", name: str, terms: Any) -> tuple[str, list[str]]:
    """What the pointwise terms belong to, and the label of each."""
    dim = str(terms.dims[-1])
    labels = [str(label) for label in terms.coords[dim].values] if dim in terms.coords else []
    n = int(np.prod(terms.shape[2:]))
    if len(labels) != n:
        return "terms", [f"term {i}" for i in range(n)]
    words = {"subject": "subjects", "time": "times", "series": "series"}
    return words.get(dim, "terms"), [f"{dim} {label}" for label in labels]
