"""How declared graphs are conditioned, simulated and sampled."""

from mjp.inference import agent_jump_engine as agent_jump_engine
from mjp.inference import count_engine as count_engine
from mjp.inference import factorial_engine as factorial_engine
from mjp.inference import finite_state_engine as finite_state_engine
from mjp.inference import gamma_engine as gamma_engine
from mjp.inference import gaussian_engine as gaussian_engine
from mjp.inference import mixed_engine as mixed_engine
from mjp.inference import particle_engine as particle_engine
from mjp.inference import rules as rules
from mjp.inference import several_parents_engine as several_parents_engine
from mjp.inference import sparse_engine as sparse_engine
from mjp.inference import switching_engine as switching_engine
from mjp.inference.agent_particles import AgentParticles as AgentParticles
from mjp.inference.condition import Guided as Guided
from mjp.inference.condition import condition as condition
from mjp.inference.count_simulation import simulate_counts as simulate_counts
from mjp.inference.evidence import Evidence as Evidence
from mjp.inference.evidence import evidence as evidence
from mjp.inference.guided_smc import Particles as Particles
from mjp.inference.identifiability import identifiability as identifiability
from mjp.inference.mixed_particles import MixedParticles as MixedParticles
from mjp.inference.next_observations import Towards as Towards
from mjp.inference.regime_particles import RegimeParticles as RegimeParticles
from mjp.inference.rules import cheapest_options as cheapest_options
from mjp.inference.rules import is_exact_family as is_exact_family
from mjp.inference.simulate import simulate as simulate
from mjp.inference.smc import smc as smc


def __getattr__(name: str) -> object:
    """The kernels, which stand above this package and are imported when they are asked for."""
    kernels = (
        "AgentParticleGibbs",
        "CrankNicolson",
        "IndividualForwardBackward",
        "IndividualUniformization",
        "InfiniteHMC",
        "MixedParticleGibbs",
        "ParticleGibbs",
        "ParticleMarginal",
        "PseudoMarginal",
        "UniformizationGibbs",
    )
    if name not in kernels:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mjp.inference import kernels as package

    return getattr(package, name)
