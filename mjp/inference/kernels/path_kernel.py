"""What kernels on the paths of a model have in common."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

from numpyro.infer.mcmc import MCMCKernel

from mjp._checks import check_count, check_particles
from mjp.graph import Graph
from mjp.numpyro_bridge import has_agent_jumps, has_agent_path, recording


class PathKernel(MCMCKernel):
    """A kernel that updates the sites `z` of paths of a model, and may stand as a block in `Gibbs`.

    Args:
        model: a NumPyro model that contains `mjp.sample`.
        sites: names given to `mjp.sample`; by default all that the kernel can update.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None):
        self._model, self._sites = model, sites

    @property
    def sample_field(self) -> str:
        return "z"

    @property
    def model(self) -> Callable:
        return self._model

    def refresh(self, state: Any, model_args: tuple, model_kwargs: dict | None) -> Any:
        return state  # nothing is kept that depends on other sites

    def wrap_model(self, wrapper: Callable) -> Self:
        kernel = copy.copy(self)
        kernel._model = wrapper(self._model)
        return kernel

    def _declared(
        self, args: tuple, kwargs: dict | None, wanted: Callable[[Graph, dict[str, Any]], bool]
    ) -> dict[str, tuple[Graph, dict[str, Any]]]:
        """Graphs of the model that are wanted and among the kernel's sites, with their options."""
        with recording() as graphs:
            self._model(*args, **(kwargs or {}))
        chosen = (
            graphs if self._sites is None else {name: graphs[name] for name in graphs if name in self._sites}
        )
        return {name: found for name, found in chosen.items() if wanted(*found)}

    def _agents_in_steps(self, args: tuple, kwargs: dict | None) -> dict[str, Graph]:
        """The graphs of interacting particles in discrete time.

        Raises:
            ValueError: there are none.
        """
        wanted = lambda graph, _: has_agent_path(graph) and not has_agent_jumps(graph)
        found = self._declared(args, kwargs, wanted)
        if not found:
            raise ValueError("model has no interacting particles whose paths could be drawn")
        return {name: graph for name, (graph, _) in found.items()}


class ParticleKernel(PathKernel):
    """A kernel whose sweeps are conditional particle filters.

    Args:
        particles: of each graph, or of each of its series.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None = None, *, particles: int = 50):
        check_particles(particles)
        super().__init__(model, sites)
        self._particles = particles

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"particle ESS={float(state.particle_ess):.2f} moved={float(state.moved):.2f}"


class SweepKernel(PathKernel):
    """A kernel that goes through all agents, and draws the path of each given those of the others.

    Args:
        sweeps: through all agents, per draw.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None = None, *, sweeps: int = 1):
        check_count("sweeps", sweeps)
        super().__init__(model, sites)
        self._sweeps = sweeps

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"moved={float(state.moved):.2f}"
