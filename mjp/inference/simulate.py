"""Prior draws of a graph, observations included."""

from typing import Any

import equinox as eqx
import jax
from jax import Array

from mjp._checks import is_concrete
from mjp.graph import Graph
from mjp.inference.condition import condition, engine_name
from mjp.inference.observing import observations_of
from mjp.inference.rules.registry import simulator_of
from mjp.trajectory import Trajectory


def simulate(graph: Graph, key: Array, **options: Any) -> Trajectory:
    """Draw states, paths and observations forward, whatever values the observations have.

    Roots with a known value keep it (the first states of a panel without `initial`, say). A state seen
    exactly is simulated as a snapshot at the node's time.

    Args:
        graph: a declared graph.
        options: for reaction networks `replicates` (draws at once), `paths` (False to store the counts at
            the nodes only), `max_events` and `event_limit`, see `mjp.inference.simulate_counts`; else as for
            `mjp.condition`.

    Returns:
        a trajectory whose `observations` hold, for each batch of observations, the values (n, ...):
        positions of states or outcomes for `Exactly` and `Misclassified`, else draws of the likelihood.

    Raises:
        ValueError, TypeError: as for `mjp.condition`; a path that leaves the finite numbers, with the time
            and the node that follows; for reaction networks also propensities that are negative, not
            finite, or positive without reactants, with reaction, state and time.
    """
    simulator = simulator_of(engine_name(graph))
    if simulator is not None:
        return simulator(graph, key, **options)
    path_key, observation_key = jax.random.split(key)
    prior = condition(graph, observed=False, **options)
    trajectory, _ = prior.sample(path_key)
    if is_concrete(trajectory.values) and (trouble := prior.trouble(trajectory)):
        raise ValueError(f"the simulated path is not finite from {trouble}")
    values = observations_of(graph, trajectory.values, observation_key)
    return eqx.tree_at(
        lambda t: t.observations, trajectory, values, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )
