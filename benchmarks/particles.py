"""Epidemics on networks of 10² to 10⁵ agents: time and memory of what mjp does with them.

A random network with six contacts per agent; ten snapshots of a tenth of the agents, five steps apart, or a
unit of time in which agents jump one at a time. Also the spread of the log-weights of guided draws, which
grows with the number of agents.
"""

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
from common import compiled, emit

import mjp
from mjp.inference import uniformized_agents
from mjp.inference.agent_jump_law import AgentJumpLaw
from mjp.inference.agent_path_law import AgentPathLaw
from mjp.inference.individual_forward_backward import colours_of, sweep

SIZES = (100, 1_000, 10_000, 100_000)
TIMES, STEPS = np.arange(10.0), 5
JUMPS, LARGEST_IN_TIME = 12, 10_000  # of an agent; agents


def epidemic(network: nx.Graph, rates: Any, values: Any = None, *, jumps: bool = False) -> mjp.Graph:
    n = network.number_of_nodes()
    kind = mjp.InteractingJumps if jumps else mjp.InteractingParticles
    process = kind.sirs(network, *rates, external=0.01)
    first = np.where(np.arange(n) % 20 == 0, "I", "S").tolist()
    return mjp.chain(process, TIMES, initial=first, steps=STEPS).observe_each(mjp.Exactly(), values)


def snapshots(network: nx.Graph) -> np.ndarray:
    drawn = mjp.simulate(epidemic(network, (0.3, 0.5, 0.1)), jax.random.key(0))
    values = np.array(["S", "I", "R"], object)[np.asarray(drawn.values)]
    hidden = np.random.default_rng(0).uniform(size=values.shape[1]) > 0.1
    values[:, hidden] = None
    return values


def seconds(function: Callable, *args: Any, repeats: int) -> tuple[float, float]:
    """Median of the seconds that one call takes, and the seconds of compilation."""
    program, traced, built = compiled(function, *args)
    jax.block_until_ready(program(*args))
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(program(*args))
        found.append(time.perf_counter() - began)
    return float(np.median(found)), traced + built


def programs(network: nx.Graph, values: np.ndarray) -> tuple[dict[str, tuple[Callable, tuple]], int]:
    """What is timed, with its arguments; and the number of colours of a sweep."""
    key, rates = jax.random.key(1), jnp.array([0.3, 0.5, 0.1])
    law = AgentPathLaw(epidemic(network, rates, values))
    order, path = colours_of(law.model), law.sample(key)

    def density(rates: Any, path: Any) -> Any:
        return jax.value_and_grad(lambda r: AgentPathLaw(epidemic(network, r, values)).log_prob(path))(rates)

    def guided(key: Any) -> Any:
        return mjp.condition(epidemic(network, rates, values)).sample(key)[1]

    def swept(key: Any, path: Any) -> Any:
        return sweep(law.model, order, key, path.astype(jnp.int32))

    return {
        "simulation": (law.sample, (key,)),
        "density of a path and its gradient": (density, (rates, path)),
        "backward filter and guided draw": (guided, (key,)),
        "sweep through the paths of all agents": (swept, (key, path)),
    }, len(order.members)


def programs_in_time(network: nx.Graph, values: np.ndarray) -> tuple[dict[str, tuple[Callable, tuple]], int]:
    """The same where agents jump one at a time."""
    key, rates = jax.random.key(1), jnp.array([0.3, 0.5, 0.1])
    graph = epidemic(network, rates, values, jumps=True)
    room = uniformized_agents.event_room(graph, 1.0)
    law = AgentJumpLaw(graph, JUMPS, room)
    order, path = colours_of(law.model), jax.jit(law.sample)(key)

    def density(rates: Any, path: Any) -> Any:
        own = lambda r: AgentJumpLaw(epidemic(network, r, values, jumps=True), JUMPS, room).log_prob(path)
        return jax.value_and_grad(own)(rates)

    guided = mjp.condition(graph, max_jumps=JUMPS)
    return {
        "simulation": (law.sample, (key,)),
        "density of a path and its gradient": (density, (rates, path)),
        "guided draw": (lambda key: guided.sample(key)[1], (key,)),
        "sweep through the paths of all agents": (
            lambda key, path: uniformized_agents.sweep(law.model, order, key, path, room),
            (key, path),
        ),
    }, len(order.members)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="up to 10⁴ agents, few repeats")
    quick = parser.parse_args().quick
    for n in SIZES[: 3 if quick else 4]:
        network = nx.random_regular_graph(6, n, seed=1)
        values = snapshots(network)
        kinds = {f"{TIMES.size - 1} x {STEPS} steps": programs}
        if n <= LARGEST_IN_TIME:
            kinds["continuous time"] = programs_in_time
        for kind, of_kind in kinds.items():
            calls, colours = of_kind(network, values)
            for what, (function, args) in calls.items():
                median, built = seconds(function, *args, repeats=3 if quick else 5)
                emit(
                    "particles",
                    f"{n} agents, {kind}",
                    what,
                    1e3 * median,
                    microseconds_per_agent=1e6 * median / n,
                    compilation=built,
                    colours=colours,
                    peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                )
        if n <= 1_000:
            guided = mjp.condition(epidemic(network, (0.3, 0.5, 0.1), values))
            _, weights = jax.vmap(guided.sample)(jax.random.split(jax.random.key(2), 100))
            spread = float(np.std(np.asarray(weights)))
            emit("particles", f"{n} agents", "deviation of the log-weights of guided draws", spread, unit="")


if __name__ == "__main__":
    main()
