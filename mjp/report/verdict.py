"""Whether the chains can be trusted, in words."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mjp.report.parts import Paragraph, Part, Table

if TYPE_CHECKING:
    from mjp.fitting import Fit

# Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), Bayesian Analysis 16(2):667-718
RHAT, ESS = 1.01, 400
BFMI = 0.3  # Betancourt (2016), arXiv:1604.00695


@dataclass(frozen=True)
class Verdict:
    """The outcome of the convergence checks.

    Attributes:
        problems: what is wrong and what to do, one sentence or two each; empty if all is well.
        checks: name of the check, what was found, what is asked for, and whether it is met.
    """

    problems: list[str]
    checks: list[tuple[str, str, str, bool]]

    @property
    def good(self) -> bool:
        return not self.problems

    @property
    def headline(self) -> str:
        if self.good:
            return "All good: the chains agree, and there are enough effective draws."
        number = len(self.problems)
        return f"Do not trust this run yet: {number} problem{'s' if number > 1 else ''} found."


def judge(fit: "Fit") -> Verdict:
    """Check R-hat, effective sample sizes, divergences, tree depth, energy, and the room for jump paths."""
    table = fit.summary(var_names=list(fit.parameters), round_to="none")
    problems: list[str] = []
    checks: list[tuple[str, str, str, bool]] = []

    def check(name: str, found: str, asked: str, met: bool, advice: str) -> None:
        checks.append((name, found, asked, met))
        if not met:
            problems.append(advice)

    if fit.settings["chains"] < 2:
        check(
            "R-hat", "one chain only", "at least 2 chains", False,
            "There is one chain only, so that nothing shows whether chains agree. Run at least 4.",
        )  # fmt: skip
    else:
        value, name = _worst(table["r_hat"], highest=True)
        advice = (
            f"The chains have not mixed: R-hat of {name} is {value:.3f}. Draw more; if it stays, look for "
            "several modes or for parameters that the data do not identify."
        )
        check("R-hat, largest", f"{value:.3f} ({name})", f"below {RHAT}", value < RHAT, advice)
    for column, which in (("ess_bulk", "bulk"), ("ess_tail", "tail")):
        value, name = _worst(table[column], highest=False)
        factor = np.ceil(ESS / max(value, 1.0) * 1.2)
        advice = (
            f"There are too few effective draws: the {which} ESS of {name} is {value:.0f}, and {ESS} are "
            f"needed. Draw about {factor:.0f} times as many."
        )
        met = value >= ESS
        check(f"{which} ESS, smallest", f"{value:.0f} ({name})", f"at least {ESS}", met, advice)
    _check_sampler(fit, check)
    return Verdict(problems, checks)


def _check_sampler(fit: "Fit", check) -> None:
    statistics, total = fit.statistics, fit.settings["chains"] * fit.settings["draws"]
    if "diverging" in statistics:
        n = int(statistics["diverging"].sum())
        advice = (
            f"{n} of {total} draws diverged, so that parts of the posterior may be missing. Raise "
            "target_accept_prob of NUTS, give narrower priors, or write the model in other parameters."
        )
        check("divergences", f"{n} of {total}", "none", n == 0, advice)
    if "num_steps" in statistics:
        # NumPyro's default allows trees of depth 10, that is 1023 steps
        n = int((statistics["num_steps"] >= 1023).sum())
        advice = (
            f"{n} of {total} draws used up the 1023 steps that NUTS allows, so that chains move slowly. "
            "Scale the parameters alike, or break their correlation."
        )
        check("draws at the step limit", f"{n} of {total}", "none", n == 0, advice)
    if "overflow" in statistics:
        n, (who, what, remedy) = int(np.sum(statistics["overflow"])), fit.without_room
        advice = f"{n} {who} {what}, so that paths with many events are missing. {remedy}."
        share = statistics.get("overflow_share")
        found = f"{n}" if share is None or n == 0 else f"{n} ({float(np.mean(share)):.1g} of all)"
        asked = "none" if share is None else "fewer than 1 in 10,000"
        check(f"{who} without room", found, asked, not fit.lacks_room, advice)
    # where paths change between two moves of NUTS, so does the energy that it works with
    if "energy" in statistics and "particle_ess" not in statistics and fit.settings["draws"] >= 20:
        energy = np.asarray(statistics["energy"], float)
        fraction = float((np.diff(energy, axis=1) ** 2).mean(1).min() / max(energy.var(axis=1).max(), 1e-300))
        advice = (
            f"The energy changes too little from draw to draw (fraction {fraction:.2f}), which hints at "
            "heavy tails that are not explored. Give narrower priors, or write the model in other parameters."
        )
        check("energy fraction, smallest", f"{fraction:.2f}", f"above {BFMI}", fraction > BFMI, advice)


def _worst(column, highest: bool) -> tuple[float, str]:
    values = column.to_numpy(float)
    if np.isnan(values).any():
        # a parameter that never moved has no R-hat and no effective draws
        return (np.inf if highest else 0.0), str(column.index[int(np.isnan(values).argmax())])
    place = int(values.argmax() if highest else values.argmin())
    return float(values[place]), str(column.index[place])


def section(fit: "Fit") -> list[Part]:
    verdict = judge(fit)
    parts: list[Part] = [Paragraph(verdict.headline, "good" if verdict.good else "bad")]
    parts += [Paragraph(problem, "problem") for problem in verdict.problems]
    rows = [[name, found, asked, "yes" if met else "no"] for name, found, asked, met in verdict.checks]
    marked = frozenset(i for i, check in enumerate(verdict.checks) if not check[3])
    parts.append(Table(["check", "found", "asked for", "met"], rows, marked=marked))
    return parts
