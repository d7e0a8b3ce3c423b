"""A progress bar per chain."""

import threading
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class ChainProgress:
    """Shows iterations, the phase and divergences of each chain; silent when not wanted."""

    def __init__(self, chains: int, warmup: int, draws: int, show: bool):
        self._warmup, self._total = warmup, warmup + draws

        self._lock = threading.Lock()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:>5}/{task.total} {task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, disable=not show, transient=False)
        self._tasks = [
            self._bars.add_task(f"chain {c + 1}", total=self._total, note="warm-up") for c in range(chains)
        ]

    def __enter__(self) -> "ChainProgress":
        self._bars.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bars.__exit__(*error)

    def report(self, chain: int, done: int, last: dict[str, Any]) -> None:
        """Show that a chain has made `done` iterations."""
        with self._lock:
            note = "warm-up" if done < self._warmup else "draws"
            if "adapt_state.step_size" in last:
                note += f", step {float(last['adapt_state.step_size']):.2g}"
            self._bars.update(self._tasks[chain], completed=done, note=note)
