"""Forward descriptions of processes, one file per family."""

from mjp.processes.conditional_categorical import ConditionalCategorical as ConditionalCategorical
from mjp.processes.conditional_gaussian import ConditionalGaussian as ConditionalGaussian
from mjp.processes.conditional_table import ConditionalTable as ConditionalTable
from mjp.processes.counting_process import CountingProcess as CountingProcess
from mjp.processes.diffusion import Diffusion as Diffusion
from mjp.processes.factorial_chain import FactorialChain as FactorialChain
from mjp.processes.fractional_noise import FractionalDiffusion as FractionalDiffusion
from mjp.processes.fractional_noise import FractionalNoise as FractionalNoise
from mjp.processes.fractional_noise import fractional_noise as fractional_noise
from mjp.processes.gamma_process import GammaProcess as GammaProcess
from mjp.processes.gaussian import GaussianProcess as GaussianProcess
from mjp.processes.interacting_jumps import InteractingJumps as InteractingJumps
from mjp.processes.interacting_particles import InteractingParticles as InteractingParticles
from mjp.processes.jump_diffusion import JumpDiffusion as JumpDiffusion
from mjp.processes.linear_diffusion import LinearDiffusion as LinearDiffusion
from mjp.processes.linear_gaussian import LinearGaussian as LinearGaussian
from mjp.processes.markov_chain import MarkovChain as MarkovChain
from mjp.processes.markov_jump import MarkovJump as MarkovJump
from mjp.processes.process import Process as Process
from mjp.processes.process import is_vector as is_vector
from mjp.processes.reaction_network import ReactionNetwork as ReactionNetwork
from mjp.processes.sparse_markov_jump import SparseMarkovJump as SparseMarkovJump
from mjp.processes.state_space import StateSpace as StateSpace
from mjp.processes.switching_diffusion import SwitchingDiffusion as SwitchingDiffusion
