"""Run the benchmarks: python benchmarks/run.py [topic ...] [--quick].

Each topic is a process of its own, because its settings (float32 or float64) hold for a whole process. One
JSON line per figure is printed as it comes, and a table at the end.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
TOPICS = (
    "hmm",
    "hmm_nuts",
    "cav",
    "trees",
    "linear_gaussian",
    "gaussian_trees",
    "neuron",
    "particle_filters",
    "simulation",
    "epidemic",
    "epidemic_posterior",
    "particles",
)


def run(topic: str, quick: bool) -> tuple[list[dict], bool]:
    """The figures of a topic, and whether it ended well; its lines are printed as they come."""
    command = [sys.executable, str(HERE / f"{topic}.py"), *(["--quick"] if quick else [])]
    # the package of this checkout, also where another one is installed
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    figures = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if line.startswith("{"):
                figures.append(json.loads(line))
    return figures, process.returncode == 0


def table(figures: list[dict]) -> Table:
    """All figures side by side."""
    drawn = Table(title="times of mjp and its peers; a ratio above 1 means that mjp is better")
    for column in ("topic", "case", "figure"):
        drawn.add_column(column)
    for column in ("mjp", "peer's", "ratio"):
        drawn.add_column(column, justify="right")
    for column in ("peer", "target"):
        drawn.add_column(column)
    for f in figures:
        ratio = "" if f["ratio"] is None else f"{f['ratio']:.2f}"
        numbers = [f"{f[key]:g} {f['unit']}" if f[key] is not None else "" for key in ("mjp", "peers")]
        drawn.add_row(f["topic"], f["case"], f["figure"], *numbers, ratio, f["peer"], f["target"])
    return drawn


def main() -> int:
    parser = argparse.ArgumentParser(description="Time mjp and its peers.")
    parser.add_argument("topics", nargs="*", metavar="topic", help=", ".join(TOPICS))
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that all works")
    options = parser.parse_args()
    unknown = [topic for topic in options.topics if topic not in TOPICS]
    if unknown:
        parser.error(f"unknown topic {unknown[0]!r}; expected {', '.join(TOPICS)}")
    figures, failed = [], []
    for topic in options.topics or TOPICS:
        found, well = run(topic, options.quick)
        figures += found
        if not well:
            failed.append(topic)
    Console(width=None if sys.stdout.isatty() else 140).print(table(figures))
    load = os.getloadavg()
    print(f"{os.cpu_count()} cores, load average {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
