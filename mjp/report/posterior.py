"""The posterior of the parameters: table, forest, traces and ranks, by ArviZ."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.report.parts import Missing, Paragraph, Part, Picture, Table, picture

if TYPE_CHECKING:
    from mjp.fitting import Fit

_MOST = 40  # panels in one picture
_HEADER = {
    "mean": "mean", "sd": "sd", "eti89_lb": "5.5%", "eti89_ub": "94.5%", "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS", "r_hat": "R-hat", "mcse_mean": "MCSE of mean", "mcse_sd": "MCSE of sd",
}  # fmt: skip


def table(fit: "Fit") -> list[Part]:
    """Summary table and forest plot."""
    frame = fit.summary()
    rows = [
        [str(name), *map(str, values)] for name, values in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    header = ["parameter", *(_HEADER.get(column, column) for column in frame.columns)]
    parts: list[Part] = [
        Table(
            header,
            rows,
            "Means, standard deviations and central 89% intervals; MCSE is the error of sampling.",
        )
    ]
    names, left_out = _fitting_names(fit)
    if names:
        parts.append(
            _plot(
                fit, "plot_forest", names, "Central 50% and 89% intervals of every parameter.", combined=True
            )
        )
    return parts + _left_out(left_out)


def chains(fit: "Fit") -> list[Part]:
    """Traces and ranks of the sampled parameters."""
    if fit.settings["draws"] < 4:
        raise Missing(
            f"traces and ranks need at least 4 draws per chain, and there are {fit.settings['draws']}"
        )
    names, left_out = _fitting_names(fit, among=list(fit.parameters))
    if not names:
        raise Missing(f"every site has more than {_MOST} entries, too many to plot")
    trace = "Left: densities of every chain. Right: draws in the order in which they were made."
    parts: list[Part] = [_plot(fit, "plot_trace_dist", names, trace, compact=False)]
    if fit.settings["chains"] > 1:
        ranks = (
            "Ranks of every chain's draws among all, as the difference of their distribution from a uniform "
            "one. Lines inside of the grey band: the chains agree."
        )
        parts.append(_plot(fit, "plot_rank", names, ranks))
    return parts + _left_out(left_out)


def _plot(fit: "Fit", function: str, names: list[str], caption: str, **options: Any) -> Picture:
    import arviz
    import matplotlib.pyplot as plt

    plot = getattr(arviz, function)
    tree = fit.data
    collection = plot(tree, var_names=names, backend="matplotlib", **options)
    figure = collection.viz["figure"].item()
    try:
        return picture(figure, f"{function.removeprefix('plot_')} of {', '.join(names)}", caption)
    finally:
        plt.close(figure)


def _fitting_names(fit: "Fit", among: list[str] | None = None) -> tuple[list[str], list[str]]:
    """Sites that fit into a picture together, and those that do not."""
    names, left_out, panels = [], [], 0
    for name in among or list(fit.samples):
        values = fit.samples[name]
        size = int(np.prod(values.shape[2:]))
        moving = bool((np.ptp(values.reshape(-1, size), axis=0) > 0).all())
        if panels + size > _MOST or not moving:
            left_out.append(name)
        else:
            names.append(name)
            panels += size
    return names, left_out


def _left_out(names: list[str]) -> list[Part]:
    if not names:
        return []
    text = f"Not plotted, because there would be more than {_MOST} panels or because they do not vary: "
    return [Paragraph(text + ", ".join(names) + ".", "note")]
