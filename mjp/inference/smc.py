"""Particle filters: which one a graph asks for."""

from typing import Any

from jax import Array

from mjp._checks import check_particles
from mjp.graph import Graph
from mjp.inference.agent_particles import AgentParticles, agent_particles
from mjp.inference.bootstrap_filter import Filtered
from mjp.inference.condition import engine_name
from mjp.inference.count_particles import count_particles
from mjp.inference.guided_smc import Particles
from mjp.inference.mixed_particles import MixedParticles, mixed_particles
from mjp.inference.regime_particles import RegimeParticles, regime_particles

_FILTERS: dict[str, Any] = {
    "counts": count_particles,
    "switching": regime_particles,
    "mixed families": mixed_particles,
    "particles": agent_particles,
    "factorial chains": agent_particles,
}


def smc(
    graph: Graph, key: Array, particles: int, *, guided: bool | str = True, **options: Any
) -> Particles | Filtered | RegimeParticles | AgentParticles | MixedParticles:
    r"""Particle filter, whose `exp(log_evidence)` is unbiased: of counts, regimes, agents, mixtures.

    **Graphs of one reaction network**, a chain, a tree, or several. Blocks are the edges, cut where rates
    change; the particles of a tree go through them depth first. Particles are weighted before they are
    resampled by what the guide expects of them, the product of $\kappa g$ over all edges to come that begin
    where they are, so that resampling looks ahead (twisted particle filter; Whiteley & Lee 2014, Ann.
    Statist. 42:115). With an exact guide all weights are equal. Systematic resampling, where fewer than half
    of the particles are effective.

    Where observations are so noisy that many cheap particles tell more than a few guided ones, particles may
    move as the network does, and leave no paths: `guided=False` is a bootstrap filter; with
    `guided="resampling"` resampling looks ahead all the same. A guide that is too sure of itself would then
    kill particles that turn out to be right, so that g counts by its power `trust`.

    **Chains of a `mjp.SwitchingDiffusion`** that is linear given its regimes, with Gaussian or exact
    observations. Particles are regimes; the state is integrated out by Kalman filters (Rao-Blackwellised).
    All continuations of all particles are weighed before they are resampled, with `guided=True` also by what
    the guide expects of them. With as many particles as there are sequences of regimes the evidence is exact.

    **Chains of `mjp.InteractingParticles` or `mjp.FactorialChain`.** Particles are the states of all agents,
    weighed before every step by what the guide expects of it; `guided=False` is a bootstrap filter.

    **Graphs that mix families.** Particles go through the turns in which nodes are drawn, each weighed by
    what its draw estimates so far, the potentials of the guide standing for what is to come.

    Args:
        particles: of each tree or series. options: as for `mjp.condition`; for networks whose particles move
            freely also `event_limit` (10^7), the most events of a particle on a block, the one option of a
            bootstrap filter; and for `guided="resampling"` also `trust` (0.75), from 0 to 1.

    Raises:
        ValueError: fewer than two particles; another value of `guided` or `trust`; propensities that are
            negative, not finite, or positive without reactants.
        TypeError: another graph; several networks; regimes that are not linear, or seen by observations that
            are not Gaussian.
        RuntimeError: no particle is alive: the data cannot be reached, or not with so few particles. The
            message names edge and series.

    Warns:
        UserWarning: particles whose events did not fit the buffer, or exceeded the limit.
    """
    check_particles(particles)
    engine = engine_name(graph)
    if engine not in _FILTERS:
        raise TypeError(
            "smc is for graphs of reaction networks or of several families, and chains of a "
            f"SwitchingDiffusion, InteractingParticles or FactorialChain, got a graph of {engine}"
        )
    return _FILTERS[engine](graph, key, particles, guided=guided, **options)
