"""Rules of inference: one file per process family, registered on the process type."""

from mjp.inference.rules import chemical_langevin as chemical_langevin
from mjp.inference.rules import conditional_table as conditional_table
from mjp.inference.rules import counting_process as counting_process
from mjp.inference.rules import factorial_chain as factorial_chain
from mjp.inference.rules import gamma_process as gamma_process
from mjp.inference.rules import gaussian as gaussian
from mjp.inference.rules import interacting_particles as interacting_particles
from mjp.inference.rules import jump_diffusion as jump_diffusion
from mjp.inference.rules import markov_chain as markov_chain
from mjp.inference.rules import markov_jump as markov_jump
from mjp.inference.rules import mixed as mixed
from mjp.inference.rules import reaction_network as reaction_network
from mjp.inference.rules import switching_diffusion as switching_diffusion
from mjp.inference.rules.registry import cheapest_options as cheapest_options
from mjp.inference.rules.registry import common_engine as common_engine
from mjp.inference.rules.registry import engine_of as engine_of
from mjp.inference.rules.registry import is_exact_family as is_exact_family
from mjp.inference.rules.registry import register as register
from mjp.inference.rules.registry import rule_of as rule_of
