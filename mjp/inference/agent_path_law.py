"""The law of the paths of interacting particles, as a distribution over states at all steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import Distribution, constraints

from mjp.agent_trajectory import AgentTrajectory
from mjp.graph import Graph
from mjp.inference.particle_chain import ParticleChain, evaluate
from mjp.inference.particle_engine import prior_path


class AgentPathLaw(Distribution):
    """Paths of a graph of interacting particles: positions of states (F + 1, N) at all steps.

    Several series stand side by side, N = R n. Given a path, the log-probability is a smooth function of
    the parameters, which is all that gradient-based kernels see.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.model: ParticleChain = evaluate(graph)
        interval = constraints.integer_interval(0, self.model.k - 1)
        self._support = constraints.independent(interval, 2)
        super().__init__((), self.model.shape, validate_args=False)

    @property
    def support(self) -> Any:
        return self._support

    @property
    def dtype(self) -> Any:
        """Of a path, see `ParticleChain`."""
        return self.model.path_dtype

    @property
    def start(self) -> Array:
        """A path where all agents stay in the first state."""
        return jnp.zeros(self.event_shape, self.dtype)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        if sample_shape:
            keys = jax.random.split(key, int(np.prod(sample_shape)))
            drawn = jax.vmap(self.sample)(keys)
            return drawn.reshape(*sample_shape, *drawn.shape[1:])
        return prior_path(self.model, key).astype(self.dtype)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        if value.ndim > 2:
            return jax.vmap(self.log_prob)(value)
        path = value.astype(jnp.int32)
        return jnp.sum(self.model.log_first(path)) + jnp.sum(self.model.log_transitions(path))

    def trajectory(self, value: Array) -> AgentTrajectory:
        """A path as a trajectory of the graph."""
        return self.model.trajectory(value.astype(jnp.int32))


class AgentPathLikelihood:
    """The observations of interacting particles, given their path.

    Args:
        law: of the paths, in discrete or continuous time.
    """

    def __init__(self, law: Any):
        self.model: ParticleChain = law.model

    def log_likelihoods(self, path: AgentTrajectory) -> Array:
        """Log-densities of the observations of each node, (n_nodes,); zero if unobserved."""
        nodes = self.model.static.order.nodes
        terms = self.model.log_likelihoods(path.values[nodes].reshape(len(nodes), -1))
        return terms.reshape(-1)[np.argsort(nodes.reshape(-1), kind="stable")]
