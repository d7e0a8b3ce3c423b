"""A single ion channel that opens and shuts, sampled on a grid of times.

The current through one channel jumps between two levels: open and shut. The durations of openings and
shuttings are known here, from a simulated record, but the model looks at the channel only every 10 ms, 2000
times. Openings and shuttings between two looks are missed, as they are in every recording; a Markov jump
process with one rate for opening and one for shutting takes account of them. A look may also read the wrong
level, with an unknown probability; the states are integrated out exactly.

The record has no reading errors, so that `error` should come out small, and the complete durations give the
rates themselves: see `durations`.

Priors: both rates per ms are log-normal around 0.03 with 1 on the log, durations of 5 to 240 ms with 95%.
`error` is half-normal with scale 0.05, and below 1/2: beyond, the names of the states could be exchanged.

Data: simulated by the program SCSIM for the tutorial of the Python package HJCFIT. Model: Colquhoun and
Hawkes (1981), On the stochastic properties of single ion channels, Proceedings of the Royal Society B
211:205-235.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import mjp
from mjp.models.series import Series
from mjp.models.tables import read_table

STATES = ("shut", "open")
COLUMNS = ("interval_ms", "amplitude")
GAP = 10.0  # ms between two looks
COORDS = {"switch": ["shut -> open", "open -> shut"]}
_AMPLITUDE = 5


def durations(path: str | PathLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Durations (n,) of the intervals in ms, and whether the channel is open in them.

    Args:
        path: a CSV file with the columns interval_ms and amplitude, 0 where the channel is shut; default the
            table in the package.

    Raises:
        ValueError: a column is absent, a duration is not positive.
    """
    frame = read_table("ion_channel.csv", path, COLUMNS)
    lengths = frame[COLUMNS[0]].to_numpy(float)
    bad = np.flatnonzero(~(lengths > 0))
    if len(bad):
        raise ValueError(
            f"path: row {bad[0]} has the duration {lengths[bad[0]]:g}; expected positive numbers"
        )
    return lengths, frame[COLUMNS[1]].to_numpy(float) != 0


def load(path: str | PathLike | None = None, gap: float = GAP, looks: int = 2000) -> Series:
    """The state at most `looks` times, `gap` ms apart, as labels; see `durations` for the table."""
    lengths, is_open = durations(path)
    ends = np.cumsum(lengths)
    # not at the ends of intervals, where a table of simulated looks changes its state
    times = gap * (np.arange(min(looks, int(ends[-1] / gap))) + 0.5)
    states = is_open[np.searchsorted(ends, times)]
    return Series(times, np.array(STATES, dtype=object)[states.astype(int)])


def table(data: Series, values: Any) -> Mapping[str, np.ndarray]:
    """Intervals between changes of simulated states (n,), 0 shut and 1 open, as columns that `load` reads."""
    states = np.asarray(values).reshape(-1).astype(int)
    starts = np.append(0, np.flatnonzero(np.diff(states)) + 1)
    gap = data.times[1] - data.times[0]
    lengths = gap * np.diff(np.append(starts, len(states)))
    return dict(zip(COLUMNS, (lengths, _AMPLITUDE * states[starts]), strict=True))


def gating(rate: Any, error: Any, data: Series) -> mjp.Graph:
    """The graph of the channel's state.

    Args:
        rate: (2,) of opening and of shutting, per ms.
        error: probability that a look reads the wrong level.
    """
    process = mjp.MarkovJump({STATES: rate[0], STATES[::-1]: rate[1]}, STATES)
    share = rate[0] / (rate[0] + rate[1])
    stationary = dist.Categorical(jnp.stack([1.0 - share, share]))
    chain = mjp.chain(process, data.times, initial=stationary)
    right = jnp.eye(2)
    reading = mjp.Misclassified(right + error * (1.0 - 2.0 * right))
    return chain.observe_each(reading, data.values)


def opening(data: Series) -> None:
    """A channel that opens and shuts at two rates, read with errors.

    Sites: `rate` (2,) per ms, of opening and of shutting; `error`, the probability of a wrong reading;
    `channel`, the path.
    """
    rate = numpyro.sample(
        "rate", dist.LogNormal(jnp.log(0.03), 1.0).expand([2]).to_event(1), infer={"event_dims": ["switch"]}
    )
    error = numpyro.sample("error", dist.TruncatedNormal(0.0, 0.05, low=0.0, high=0.5))
    mjp.sample("channel", gating(rate, error, data))
