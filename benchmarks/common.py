"""What the benchmarks share: timing side by side, and one JSON line per figure."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

type Call = Callable[[], Any]


def interleave(
    calls: Mapping[str, Call], seconds: float, least: int = 5, most: int = 200
) -> dict[str, np.ndarray]:
    """Wall-clock seconds of each call, (rounds,), all calls taking turns within a round.

    Args:
        calls: functions that return arrays; each is called once beforehand, untimed.
        seconds: rounds are added until this much time is spent.
        least, most: bounds of the number of rounds.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    times: dict[str, list[float]] = {name: [] for name in calls}
    began, rounds = time.perf_counter(), 0
    while rounds < least or (rounds < most and time.perf_counter() - began < seconds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: np.asarray(values) for name, values in times.items()}


def compiled(function: Callable, *args: Any) -> tuple[Any, float, float]:
    """The compiled function, and the seconds that tracing and compiling took."""
    start = time.perf_counter()
    lowered = jax.jit(function).lower(*args)
    middle = time.perf_counter()
    program = lowered.compile()
    return program, middle - start, time.perf_counter() - middle


def emit(
    topic: str,
    case: str,
    figure: str,
    mjp: float,
    *,
    unit: str = "ms",
    peer: str = "",
    peers: float | None = None,
    ratio: float | None = None,
    target: str = "",
    **more: Any,
) -> None:
    """Print one figure as a JSON line.

    Args:
        topic, case, figure: what is measured, on what.
        mjp: the figure of mjp, in `unit`.
        peer, peers: whom it is compared with, and their figure.
        ratio: above 1 if mjp is better; for times that were interleaved, the median of the rounds' ratios.
        target: what the figure should reach, in words.
        more: further numbers for the JSON line only.
    """
    line = {
        "topic": topic,
        "case": case,
        "figure": figure,
        "unit": unit,
        "mjp": _short(mjp),
        "peer": peer,
        "peers": None if peers is None else _short(peers),
        "ratio": None if ratio is None else _short(ratio),
        "target": target,
        **{name: _short(value) if isinstance(value, float) else value for name, value in more.items()},
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(line), flush=True)


def median_ms(times: np.ndarray) -> float:
    """The median of some seconds, in milliseconds."""
    return float(1e3 * np.median(times))


def median_ratio(peer: np.ndarray, mjp: np.ndarray) -> float:
    """Median over rounds of the peer's time in units of mjp's."""
    return float(np.median(peer / mjp))


def one_of(value: str, allowed: Sequence[str]) -> str:
    """`value`; raises ValueError unless it is allowed."""
    if value not in allowed:
        raise ValueError(f"unknown {value!r}; expected one of {', '.join(allowed)}")
    return value


def _short(value: float) -> float:
    return float(f"{value:.4g}")
