"""The one place where mjp meets NumPyro's effect handlers."""

from mjp.numpyro_bridge.contexts import Conditioned as Conditioned
from mjp.numpyro_bridge.contexts import defaults as defaults
from mjp.numpyro_bridge.contexts import recording as recording
from mjp.numpyro_bridge.contexts import structure_only as structure_only
from mjp.numpyro_bridge.contexts import with_linear_noise as with_linear_noise
from mjp.numpyro_bridge.kinds import HIDDEN as HIDDEN
from mjp.numpyro_bridge.kinds import INNOVATIONS as INNOVATIONS
from mjp.numpyro_bridge.kinds import PATH as PATH
from mjp.numpyro_bridge.kinds import ROOTS as ROOTS
from mjp.numpyro_bridge.kinds import has_agent_path as has_agent_path
from mjp.numpyro_bridge.kinds import has_agents as has_agents
from mjp.numpyro_bridge.kinds import has_jump_path as has_jump_path
from mjp.numpyro_bridge.kinds import has_sampled_path as has_sampled_path
from mjp.numpyro_bridge.kinds import has_state_path as has_state_path
from mjp.numpyro_bridge.kinds import state_path_law as state_path_law
from mjp.numpyro_bridge.marginal import MarginalPath as MarginalPath
from mjp.numpyro_bridge.path_sites import without_jump_paths as without_jump_paths
from mjp.numpyro_bridge.reading import conditioned_graphs as conditioned_graphs
from mjp.numpyro_bridge.reading import graphs_of as graphs_of
from mjp.numpyro_bridge.reading import latent_sites as latent_sites
from mjp.numpyro_bridge.reading import pointwise_log_likelihood as pointwise_log_likelihood
from mjp.numpyro_bridge.reading import recorded_options as recorded_options
from mjp.numpyro_bridge.reading import structure as structure
from mjp.numpyro_bridge.sampling import sample as sample
from mjp.numpyro_bridge.sampling import unflatten as unflatten
