"""Observed against expected prevalence of the states of a panel over time.

Observed: at each time the share of subjects in each state among those under observation, the last recorded
state carried forward, as in msm's `prevalence.msm`. A subject whose last record is a state that is never
left (death) stays in it for ever; any other leaves after the last record.

Expected: the same shares in replicated data that are read in the same way, so that what the reading
distorts (the carrying forward, the dead that stay while the living leave) is in both. Every subject starts
from its own first state and is seen at its own times. A subject that died has no end of follow-up, so one is
drawn from the ends of the others' (the product-limit estimator of the time at which living subjects leave,
given that it is after the death), with visits at the panel's median gap.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mjp.drawing import INK, state_colours
from mjp.fitting.draws import choose_draws
from mjp.inference import simulate
from mjp.inference.bridges import buffer_size
from mjp.numpyro_bridge import graphs_of
from mjp.panels import Panel
from mjp.report.parts import INTERVAL, Paragraph, Part, new_figure, picture
from mjp.report.paths import absorbing, heading, of_kind, process_of, recorded
from mjp.shapes import panel as panel_graph

if TYPE_CHECKING:
    from mjp.fitting import Fit

_DRAWS, _TIMES = 100, 41


class Prevalence(NamedTuple):
    """Shares of the states over time; NaN where nobody is under observation."""

    times: np.ndarray  # (m,)
    observed: np.ndarray  # (K, m)
    expected: np.ndarray  # (draws, K, m)
    n_observed: np.ndarray  # (m,) subjects under observation


def section(fit: "Fit") -> list[Part]:
    panels, parts = of_kind(fit, "prevalence is for panels", "panel")
    for name, graph in panels.items():
        try:
            parts += _picture(fit, name, graph, prevalence(fit, name))
        except ValueError as error:
            parts.append(Paragraph(f"{name}: no prevalence, because {error}.", "note"))
    return parts


def prevalence(fit: "Fit", name: str) -> Prevalence:
    """Observed and expected prevalence of a panel's states.

    Raises:
        ValueError: what was observed are not states.
    """
    graph: Any = fit.graphs[name]
    codes, final = recorded(graph), absorbing(graph)
    panel, k = graph.panel, process_of(graph).n_states
    times = np.linspace(panel.times.min(), panel.times.max(), _TIMES)
    rng = np.random.default_rng(fit.settings["seed"])
    last_known = _carried(codes, panel)[panel.offsets[1:] - 1]
    ended = np.isin(last_known, final)
    design = extended(panel, ended)
    seen, jumped = _replicate(fit, name, design, times)
    missing = np.zeros(design.n_rows, dtype=bool)
    missing[_original_rows(panel, design)] = codes < 0
    seen[:, missing] = -1
    ends = panel.times[panel.offsets[1:] - 1]
    expected = np.empty((len(seen), k, _TIMES))
    entry = np.asarray(
        [process_of(graph).index(s) for s in graph.observations[0].likelihood.entry], dtype=int
    )
    for i, (states, paths) in enumerate(zip(seen, jumped, strict=True)):
        leave = follow_up(panel, ended, rng)
        at_times = states_at(states, design, times, np.where(ended, leave, ends), final)
        # a state whose entry time is exact is known from its entry on, between visits too
        known = np.isin(paths, entry) & (times <= np.where(ended, leave, ends)[:, None])
        known = np.maximum.accumulate(known & np.isin(paths, final), axis=1)
        at_times = np.where(known, np.maximum.accumulate(np.where(known, paths, -1), axis=1), at_times)
        expected[i] = _shares(at_times, k)[0]
    observed, n = _shares(states_at(codes, panel, times, ends, final), k)
    return Prevalence(times, observed, expected, n)


def states_at(
    codes: np.ndarray, panel: Panel, times: np.ndarray, ends: np.ndarray, final: np.ndarray
) -> np.ndarray:
    """Last recorded state of every subject at times (m,), (subjects, m); -1 where not under observation.

    Args:
        codes: (rows,) recorded states, negative where none is known.
        ends: (subjects,) time after which a subject leaves, unless its state is one of `final`.
    """
    carried, first, owner = _carried(codes, panel), panel.offsets[:-1], panel.subject_of_row

    def rows_until(bounds: np.ndarray) -> np.ndarray:
        """How many rows of each subject are at or before bounds (..., subjects)."""
        return np.add.reduceat(panel.times <= bounds[..., owner], first, axis=-1, dtype=int)

    at_each = np.broadcast_to(times[:, None], (len(times), panel.n_subjects))
    row = (np.minimum(rows_until(at_each), rows_until(ends)) - 1).T
    state = np.where(row >= 0, carried[first[:, None] + np.maximum(row, 0)], -1)
    return np.where((times <= ends[:, None]) | np.isin(state, final), state, -1)


def follow_up(panel: Panel, ended: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """For each subject a time at which its follow-up would have ended, beyond its last row.

    Drawn from the product-limit estimate of the time at which subjects leave alive; whoever the estimate
    sends beyond the last such time stays until the panel's last time.
    """
    entered, ends = panel.times[panel.offsets[:-1]], panel.times[panel.offsets[1:] - 1]
    moments = np.unique(ends[~ended])
    at_risk = ((entered[:, None] < moments) & (ends[:, None] >= moments)).sum(axis=0)
    leaving = (ends[~ended][:, None] == moments).sum(axis=0)
    survival = np.cumprod(1 - leaving / np.maximum(at_risk, 1))
    position = np.searchsorted(moments, ends, side="right")
    before = np.where(position > 0, np.append(survival, 1.0)[position - 1], 1.0)
    drawn = np.searchsorted(-survival, -rng.uniform(size=len(ends)) * before)
    return np.append(moments, panel.times.max())[np.maximum(drawn, position)]


def extended(panel: Panel, ended: np.ndarray) -> Panel:
    """The panel with visits at the median gap added to subjects `ended`, until its last time."""
    gaps = np.diff(panel.times)[~panel.is_last[:-1]]
    gap = float(np.median(gaps)) if len(gaps) else np.inf
    horizon, rows, times = panel.times.max(), [], []
    for i, (a, b) in enumerate(zip(panel.offsets, panel.offsets[1:], strict=False)):
        more = np.arange(1, int((horizon - panel.times[b - 1]) / gap) + 1) if ended[i] else np.zeros(0)
        rows.append(np.concatenate([np.arange(a, b), np.full(len(more), b - 1)]))
        times.append(np.concatenate([panel.times[a:b], panel.times[b - 1] + gap * more]))
    index = np.concatenate(rows)
    return replace(
        panel,
        offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        times=np.concatenate(times),
        states=panel.states[index],
        covariates={name: values[index] for name, values in panel.covariates.items()},
    )


def _original_rows(panel: Panel, design: Panel) -> np.ndarray:
    return np.arange(panel.n_rows) + np.repeat(design.offsets[:-1] - panel.offsets[:-1], panel.lengths)


def _carried(codes: np.ndarray, panel: Panel) -> np.ndarray:
    """Recorded states with the last known one carried forward within each subject, (..., rows)."""
    place = np.where(codes >= 0, np.arange(panel.n_rows), -1)
    place = np.maximum.accumulate(place)
    owner = panel.subject_of_row
    known = (place >= 0) & (owner[np.maximum(place, 0)] == owner)
    return np.where(known, codes[np.maximum(place, 0)], -1)


def _shares(at: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    counts = np.stack([(at == state).sum(axis=0) for state in range(k)]).astype(float)
    total = counts.sum(axis=0)
    return np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0), total


def _replicate(fit: "Fit", name: str, design: Panel, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Replicated records (draws, rows) and true states at times (draws, subjects, m)."""
    samples = fit.parameters
    chain, draw = choose_draws(samples, _DRAWS)
    parameters = {site: jnp.asarray(values[chain, draw]) for site, values in samples.items()}
    keys = jax.random.split(jax.random.key(fit.settings["seed"] + 3), len(chain))
    size = buffer_size(10.0)

    def one(x: tuple[Any, jax.Array], size: int) -> tuple[Any, ...]:
        fitted: Any = graphs_of(fit.model, fit.args, fit.kwargs, x[0])[name]
        observed = fitted.observations[0]
        given = None if len(observed.nodes) < fitted.n_nodes else fitted.roots[0].initial
        given = given[0] if isinstance(given, list) else given
        graph = panel_graph(fitted.edges[0].process, design, observe=observed.likelihood, initial=given)
        path: Any = simulate(graph, x[1], max_jumps=size)
        records = path.values.astype(jnp.int8)
        records = records.at[graph.observations[0].nodes].set(path.observations[0].astype(jnp.int8))
        return records, path.at(times).astype(jnp.int8), path.overflow

    while True:
        run = jax.jit(lambda p, k, size=size: lax.map(lambda x: one(x, size), (p, k)))
        records, at_times, overflow = run(parameters, keys)
        if not overflow.any() or size > 10_000:
            return np.array(records), np.array(at_times)
        size *= 2


def _picture(fit: "Fit", name: str, graph: Any, found: Prevalence) -> list[Part]:
    states = process_of(graph).states
    columns = min(len(states), 3 if len(states) in (3, 5, 6, 9) else 2)
    rows = -(-len(states) // columns)
    figure, axes = new_figure(9.0, 0.6 + 2.4 * rows, rows, columns, sharex=True, sharey=True)
    inside = found.n_observed > 0
    low, middle, high = np.nanquantile(found.expected[..., inside], [INTERVAL[0], 0.5, INTERVAL[1]], axis=0)
    t, outside = found.times[inside], []
    for i, (ax, state, colour) in enumerate(zip(axes.flat, states, state_colours(states), strict=False)):
        ax.fill_between(t, low[i], high[i], color=colour, alpha=0.3, lw=0, label="expected, 89%")
        ax.plot(t, middle[i], color=colour, lw=1.5, label="expected, median")
        ax.plot(t, found.observed[i][inside], color=INK, lw=1.0, marker="o", ms=2.5, label="observed")
        ax.set_title(str(state), fontsize=9)
        beyond = (found.observed[i][inside] < low[i]) | (found.observed[i][inside] > high[i])
        outside.append(f"{state} {100 * beyond.mean():.0f}%")
    for ax in axes.flat[len(states) :]:
        ax.axis("off")
    for ax in axes[-1]:
        ax.set_xlabel("time")
    for ax in axes[:, 0]:
        ax.set_ylabel("share of subjects")
    axes.flat[0].legend(frameon=False, fontsize=8)
    caption = (
        f"{heading(fit, name)}observed prevalence, the last record carried forward, against data replicated "
        "from the posterior and read in the same way. Subjects whose last record is a state that is never "
        "left stay in it, others leave after their last record."
    )
    text = f"{heading(fit, name)}Share of the times at which the observed value is outside of the 89% band: "
    text += (
        ", ".join(outside) + ". Neighbouring times share most of their data, so that they leave it together."
    )
    return [picture(figure, f"observed and expected prevalence, {name}", caption), Paragraph(text)]
