"""How the particles fared that draw paths."""

from typing import TYPE_CHECKING

import numpy as np

from mjp.numpyro_bridge import PATH
from mjp.report.parts import Missing, Paragraph, Part, Table, percent

if TYPE_CHECKING:
    from mjp.fitting import Fit

_STUCK = 0.05  # share of the pieces of a path that change from draw to draw

# statistic, what it is called in the group sample_stats, and in words
_ROWS = (
    ("particle_ess", "particle_ess", "effective share of the particles, before the worst resampling"),
    ("renewed", "ancestors_renewed", "share of {blocks} at which the kept path got another past"),
    ("moved", "paths_moved", "share of the {pieces} that {changed}"),
    ("jumped", "marginal_acceptance_rate", "acceptance of moves of parameters and paths together"),
)

_GIVEN_PARAMETERS = (
    "Paths are sampled beside the parameters by conditional particle filters, which leave their law given "
    "parameters and data as it is for any number of particles and any guide. More particles, or a better "
    "guide, let paths move further per draw."
)
_TOGETHER = (
    "Parameters and paths move together. A particle filter, whose particles {move}, estimates the evidence "
    "of the new parameters and draws a path; moves are accepted with that estimate, and the posterior is "
    "exact for any number of particles. With more of them more moves are accepted."
)


def section(fit: "Fit") -> list[Part]:
    if "particle_ess" not in fit.statistics:
        raise Missing("no path of the model is sampled with particles")
    jumps = any(site.endswith(PATH) for site in fit.samples) and "overflow" in fit.statistics
    together = "overflow_share" in fit.statistics  # parameters and paths, by pseudo-marginal moves
    words_of = {
        "blocks": "blocks" if jumps else "steps",
        "pieces": _pieces(together, jumps, "renewed" in fit.statistics),
        "changed": "were accepted" if together else "changed from one draw to the next",
    }
    move = "move as the process does" if jumps else "follow the guide"
    parts: list[Part] = [Paragraph(_TOGETHER.format(move=move) if together else _GIVEN_PARAMETERS)]
    problem = overflow_in_words(fit)
    if problem:
        parts.append(Paragraph(problem, "problem"))
    moved = float(fit.statistics["moved"].mean())
    if moved < _STUCK:
        text = (
            f"Only {percent(moved)} of the {words_of['pieces']} {words_of['changed']}, so that chains "
            "explore paths slowly. Give more particles."
        )
        parts.append(Paragraph(text, "problem"))
    rows = []
    for name, shown, words in _ROWS:
        if name in fit.statistics:
            values = np.asarray(fit.statistics[name], float)
            rows.append(
                [shown, words.format(**words_of), percent(values.mean()), percent(values.mean(axis=1).min())]
            )
    if jumps:
        dropped = int(np.sum(fit.statistics["overflow"]))
        rows.append(["buffer_overflow", "particles whose events did not fit the buffer", f"{dropped}", ""])
    caption = "Names are those of the statistics in the group sample_stats of the data."
    return [*parts, Table(["statistic", "what it is", "mean", "worst chain"], rows, caption)]


def _pieces(together: bool, jumps: bool, agents: bool) -> str:
    if together:
        return "moves"
    return "paths of edges" if jumps else "agents' states, over all steps," if agents else "nodes"


def overflow_in_words(fit: "Fit") -> str | None:
    """What a buffer that was too short means; None where it never was."""
    return next((problem for problem in fit.problems() if "max_events" in problem), None)
