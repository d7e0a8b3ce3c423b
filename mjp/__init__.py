"""Markov processes in NumPyro models."""

# ruff: noqa: E402 (flags come before whatever might make JAX compute)
from mjp import _xla_flags

_xla_flags.disable_faulty_fusion()

from mjp.fitting import Fit as Fit
from mjp.fitting import fit as fit
from mjp.graph import Graph as Graph
from mjp.inference import Evidence as Evidence
from mjp.inference import condition as condition
from mjp.inference import evidence as evidence
from mjp.inference import identifiability as identifiability
from mjp.inference import simulate as simulate
from mjp.inference import smc as smc
from mjp.numpyro_bridge import sample as sample
from mjp.observations import EachAgent as EachAgent
from mjp.observations import Exactly as Exactly
from mjp.observations import LinearGaussianObservation as LinearGaussianObservation
from mjp.observations import LocalEmissions as LocalEmissions
from mjp.observations import Misclassified as Misclassified
from mjp.panels import Panel as Panel
from mjp.processes import ConditionalCategorical as ConditionalCategorical
from mjp.processes import ConditionalGaussian as ConditionalGaussian
from mjp.processes import ConditionalTable as ConditionalTable
from mjp.processes import CountingProcess as CountingProcess
from mjp.processes import Diffusion as Diffusion
from mjp.processes import FactorialChain as FactorialChain
from mjp.processes import GammaProcess as GammaProcess
from mjp.processes import InteractingJumps as InteractingJumps
from mjp.processes import InteractingParticles as InteractingParticles
from mjp.processes import JumpDiffusion as JumpDiffusion
from mjp.processes import LinearDiffusion as LinearDiffusion
from mjp.processes import LinearGaussian as LinearGaussian
from mjp.processes import MarkovChain as MarkovChain
from mjp.processes import MarkovJump as MarkovJump
from mjp.processes import ReactionNetwork as ReactionNetwork
from mjp.processes import SparseMarkovJump as SparseMarkovJump
from mjp.processes import StateSpace as StateSpace
from mjp.processes import SwitchingDiffusion as SwitchingDiffusion
from mjp.processes import fractional_noise as fractional_noise
from mjp.regimes import regimes as regimes
from mjp.shapes import chain as chain
from mjp.shapes import panel as panel
from mjp.shapes import tree as tree
from mjp.starts import fractional_start as fractional_start
from mjp.trajectory import Trajectory as Trajectory
