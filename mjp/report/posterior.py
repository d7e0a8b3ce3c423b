"""The posterior of the parameters: table, forest, traces and ranks, by ArviZ."""

from typing import TYPE_CHECKING, Any

import numpy as np

from mjp.drawing import PALETTE
from mjp.report.parts import Missing, Paragraph, Part, Picture, Table, listed, picture

if TYPE_CHECKING:
    from mjp.fitting import Fit

_MOST = 40  # panels in one picture
_HEADER = {
    "mean": "mean", "sd": "sd", "eti89_lb": "5.5%", "eti89_ub": "94.5%", "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS", "r_hat": "R-hat", "mcse_mean": "MCSE of mean", "mcse_sd": "MCSE of sd",
}  # fmt: skip


def summary_rows(fit: "Fit") -> tuple[list[str], list[list[str]]]:
    """Header and rows of the summary table, in words and rounded."""
    frame = fit.summary(round_to="none")
    header = ["parameter", *(_HEADER.get(column, column) for column in frame.columns)]
    return header, [[str(name), *_row(values)] for name, values in frame.iterrows()]


def table(fit: "Fit") -> list[Part]:
    """Summary table and forest plot."""
    header, rows = summary_rows(fit)
    parts: list[Part] = [
        Table(
            header,
            rows,
            "Means, standard deviations and central 89% intervals; MCSE is the error of sampling.",
        )
    ]
    names, left_out = _fitting_names(fit)
    for group in _alike(fit, names):
        caption = f"Central 50% and 89% intervals of {listed(group)}."
        parts.append(_plot(fit, "plot_forest", group, caption, 0.32, combined=True))
    return parts + _left_out(left_out)


def _row(values: Any) -> list[str]:
    """Numbers of one parameter, with as many decimals as show two digits of its deviation."""
    sd = float(values["sd"])
    decimals = int(np.clip(1 - np.floor(np.log10(sd)), 0, 8)) if sd > 0 else 4
    cells = []
    for column, value in values.items():
        if column.startswith("ess"):
            cells.append(f"{value:.0f}")
        elif column == "r_hat":
            cells.append(f"{value:.3f}")
        elif column.startswith("mcse"):
            cells.append(f"{value:.2g}")
        else:
            cells.append(f"{value:.{decimals}f}")
    return cells


def _alike(fit: "Fit", names: list[str]) -> list[list[str]]:
    """Sites grouped so that intervals of one group can be read on one axis."""
    span = {name: float(np.ptp(fit.shown[name])) for name in names}
    groups: list[list[str]] = []
    for name in sorted(names, key=span.__getitem__):
        if groups and span[name] < 5 * span[groups[-1][0]]:
            groups[-1].append(name)
        else:
            groups.append([name])
    return [[name for name in names if name in group] for group in groups]


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
    parts: list[Part] = [_plot(fit, "plot_trace_dist", names, trace, 1.4, compact=False)]
    if fit.settings["chains"] > 1:
        ranks = (
            "Ranks of every chain's draws among all, as the difference of their distribution from a uniform "
            "one. The chains agree where p is above α; points that speak against it are marked."
        )
        parts.append(_plot(fit, "plot_rank", names, ranks, 2.2, 4, col_wrap=4))
    return parts + _left_out(left_out)


def _plot(
    fit: "Fit", function: str, names: list[str], caption: str, row: float, columns: int = 1, **options: Any
) -> Picture:
    """A picture by ArviZ, with a row of so many inches for every `columns` entries of these sites."""
    import arviz
    import matplotlib.pyplot as plt
    from cycler import cycler

    with plt.rc_context({"axes.prop_cycle": cycler(color=PALETTE)}):
        collection = getattr(arviz, function)(fit.data, var_names=names, backend="matplotlib", **options)
    figure = collection.viz["figure"].item()
    try:
        entries = sum(int(np.prod(fit.shown[name].shape[2:])) for name in names)
        figure.set_layout_engine("constrained")
        figure.set_size_inches(10.0, 0.9 + row * -(-entries // columns))
        return picture(figure, f"{function.removeprefix('plot_')} of {', '.join(names)}", caption)
    finally:
        plt.close(figure)


def _fitting_names(fit: "Fit", among: list[str] | None = None) -> tuple[list[str], list[str]]:
    """Sites that fit into a picture together, and those that do not."""
    names, left_out, panels = [], [], 0
    for name in among or list(fit.shown):
        values = fit.shown[name]
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
