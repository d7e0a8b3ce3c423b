"""Uniformization Gibbs: jump paths on finitely many states, given parameters and data."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from mjp.inference.condition import condition
from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.particle_gibbs import share_moved
from mjp.inference.kernels.path_kernel import PathKernel
from mjp.inference.state_path_law import StatePathLaw
from mjp.inference.uniformized_sweep import uniformized_sweep
from mjp.numpyro_bridge import PATH, has_state_path, state_path_law


class UniformizationState(NamedTuple):
    """State of `UniformizationGibbs`.

    Attributes:
        z: value of every site of paths.
        moved: share of the pieces of paths that the last sweep changed.
        overflow: chains and series whose events, real and virtual, did not fit the buffer in the last sweep;
            they keep their path.
    """

    i: Array
    z: dict[str, Array]
    moved: Array
    overflow: Array
    rng_key: Array


class UniformizationGibbs(PathKernel):
    r"""Updates the paths `….path` of finite-state processes, given all other sites, without rejections.

    Virtual jumps are added to a path at rate $\Omega - |q_{xx}|$; given the times of all events, states are
    drawn by forward filtering and backward sampling of the chain $I + Q / \Omega$, and events that change
    nothing are dropped (Rao & Teh 2013, J. Mach. Learn. Res. 14:3295). Cost: one matrix-vector product per
    slot of the buffer. Use it as a block of `numpyro.infer.Gibbs`, beside NUTS on the parameters.

    Args:
        model: a NumPyro model that contains `mjp.sample(..., latent="path")` of chains or panels of
            `MarkovJump`.
        sites: names given to `mjp.sample`; by default all such graphs of the model.
        rate_factor: Ω as a multiple of the largest |q_xx|, > 1.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None = None, *, rate_factor: float = 2.0):
        if not rate_factor > 1:
            raise ValueError(f"rate_factor must be above 1, got {rate_factor!r}")
        super().__init__(model, sites)
        self._factor = rate_factor

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"moved={float(state.moved):.2f}"

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> UniformizationState:
        """Start at paths drawn from their law given data and parameters.

        Raises:
            ValueError: a batch of keys, or a model without such paths.
        """
        check_one_key(self, rng_key)
        key, following = jax.random.split(rng_key)
        z = {}
        for i, (name, law) in enumerate(self._laws(model_args, model_kwargs).items()):
            guided = condition(law.graph, max_jumps=law.size)
            z[name + PATH] = law.packed(guided.sample(jax.random.fold_in(key, i))[0])  # type: ignore[arg-type]
        none = jnp.zeros((), jnp.int32)
        return UniformizationState(none, z, jnp.zeros((), jnp.result_type(float)), none, following)

    def sample(
        self, state: UniformizationState, model_args: tuple, model_kwargs: dict | None
    ) -> UniformizationState:
        """One sweep over all paths."""
        key, following = jax.random.split(state.rng_key)
        z, overflow = {}, jnp.zeros((), jnp.int32)
        for i, (name, law) in enumerate(self._laws(model_args, model_kwargs).items()):
            old = state.z[name + PATH]
            new, full = uniformized_sweep(law, old, jax.random.fold_in(key, i), self._factor)
            z[name + PATH] = new
            overflow = overflow + full
        moved = share_moved(state.z, z).astype(state.moved.dtype)
        return state._replace(i=state.i + 1, z=z, moved=moved, overflow=overflow, rng_key=following)

    def _laws(self, args: tuple, kwargs: dict | None) -> dict[str, StatePathLaw]:
        found = self._declared(args, kwargs, has_state_path)
        if not found:
            raise ValueError(
                "model has no mjp.sample(..., latent='path') of a process on finitely many states"
            )
        return {name: state_path_law(graph, options) for name, (graph, options) in found.items()}
