"""Stochastic simulation: events per second for Lotka-Volterra and an epidemic, 1000 replicates.

The peer is GillesPy2's compiled C++ solver. Where it is installed (with a C++ compiler and SCons), it takes
turns with mjp; else the figures are quoted that GillesPy2 1.8.3 reached on 2 cores of an Intel Xeon at 2.1
GHz, with the same models, replicates and 101 times of output.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from common import emit, interleave

import mjp

REPLICATES = 1000


class Case(NamedTuple):
    """A model with a known start, and GillesPy2's events per second."""

    reactions: list
    species: tuple[str, ...]
    initial: tuple[int, ...]
    duration: float
    buffer: int
    quoted: float


CASES = {
    "Lotka-Volterra": Case(
        [("X -> 2 X", 1.0), ("X + Y -> 2 Y", 0.005), ("Y -> 0", 0.6)],
        ("X", "Y"),
        (50, 100),
        15.0,
        8192,
        7.394e6,
    ),
    "SIR": Case(
        [("S + I -> 2 I", 0.0005), ("I -> R", 0.1)], ("S", "I", "R"), (990, 10, 0), 200.0, 2048, 5.143e6
    ),
}


def peer(case: Case, replicates: int) -> Callable[[], Any] | None:
    """A run of GillesPy2's compiled solver; None where it is not installed."""
    try:
        import gillespy2
    except ImportError:
        return None
    model = gillespy2.Model("peer")
    for name, count in zip(case.species, case.initial, strict=True):
        model.add_species(gillespy2.Species(name=name, initial_value=count, mode="discrete"))
    network = mjp.ReactionNetwork(case.reactions, case.species)
    needs, gives = np.asarray(network.reactants), np.asarray(network.reactants) + network.stoichiometry
    side = lambda row: {name: int(n) for name, n in zip(case.species, row, strict=True) if n}
    for i, (_, rate) in enumerate(case.reactions):
        model.add_parameter(gillespy2.Parameter(name=f"c{i}", expression=str(rate)))
        model.add_reaction(
            gillespy2.Reaction(name=f"r{i}", reactants=side(needs[i]), products=side(gives[i]), rate=f"c{i}")
        )
    model.timespan(gillespy2.TimeSpan.linspace(t=case.duration, num_points=101))
    solver = gillespy2.SSACSolver(model=model)
    return lambda: [model.run(solver=solver, number_of_trajectories=replicates)] and np.zeros(1)


def measure(name: str, case: Case, replicates: int, seconds: float) -> None:
    network = mjp.ReactionNetwork(case.reactions, case.species)
    ends = mjp.chain(network, [0.0, case.duration], initial=case.initial)
    grid = mjp.chain(network, np.linspace(0.0, case.duration, 101), initial=case.initial)
    counted = mjp.simulate(ends, jax.random.key(0), replicates=replicates, max_events=case.buffer)
    events = float(np.sum(counted.paths.n_events))
    runs: dict[str, tuple[mjp.Graph, dict]] = {
        "nothing stored": (ends, {"paths": False}),
        "101 times stored": (grid, {"paths": False}),
        "paths stored": (ends, {"max_events": case.buffer}),
    }
    calls: dict[str, Callable[[], Any]] = {
        figure: lambda graph=graph, options=options: mjp.simulate(
            graph, jax.random.key(0), replicates=replicates, **options
        )
        for figure, (graph, options) in runs.items()
    }
    rival = peer(case, replicates)
    if rival is not None:
        calls["peer"] = rival
    times = interleave(calls, seconds)
    theirs = case.quoted if rival is None else events / float(np.median(times["peer"]))
    for figure in runs:
        speed = events / float(np.median(times[figure]))
        emit(
            "simulation",
            f"{name}, {replicates} replicates, {jax.numpy.result_type(float)}",
            f"{figure}, millions of events per second",
            speed / 1e6,
            unit="M/s",
            peer="GillesPy2 C++" + (" (quoted)" if rival is None else ""),
            peers=theirs / 1e6,
            ratio=speed / theirs,
            target="2 x" if figure == "nothing stored" else "1 x",
            best=events / float(np.min(times[figure])) / 1e6,
            worst=events / float(np.max(times[figure])) / 1e6,
            rounds=len(times[figure]),
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for double in (False, True):
        jax.config.update("jax_enable_x64", double)
        for name, case in CASES.items():
            measure(name, case, 100 if quick else REPLICATES, 1.0 if quick else 20.0)


if __name__ == "__main__":
    main()
