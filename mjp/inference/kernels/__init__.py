"""Kernels on innovations: blocks of `numpyro.infer.Gibbs`, and kernels of `numpyro.infer.MCMC`."""

from mjp.inference.kernels.agent_particle_gibbs import AgentParticleGibbs as AgentParticleGibbs
from mjp.inference.kernels.crank_nicolson import CrankNicolson as CrankNicolson
from mjp.inference.kernels.individual_forward_backward import (
    IndividualForwardBackward as IndividualForwardBackward,
)
from mjp.inference.kernels.individual_uniformization import (
    IndividualUniformization as IndividualUniformization,
)
from mjp.inference.kernels.infinite_hmc import InfiniteHMC as InfiniteHMC
from mjp.inference.kernels.mixed_particle_gibbs import MixedParticleGibbs as MixedParticleGibbs
from mjp.inference.kernels.particle_gibbs import ParticleGibbs as ParticleGibbs
from mjp.inference.kernels.particle_marginal import ParticleMarginal as ParticleMarginal
from mjp.inference.kernels.pseudo_marginal import PseudoMarginal as PseudoMarginal
from mjp.inference.kernels.uniformization import UniformizationGibbs as UniformizationGibbs
