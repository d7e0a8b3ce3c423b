"""What kernels on standard normal innovations have in common."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer.util import log_density

from mjp.inference.kernels.keys import check_one_key
from mjp.inference.kernels.path_kernel import PathKernel
from mjp.inference.safe_logs import never_if_nan
from mjp.numpyro_bridge import INNOVATIONS


class InnovationState(NamedTuple):
    """State of a kernel on innovations.

    Attributes:
        z: value of every site of innovations.
        log_likelihood: log-density of the model without the law of the innovations.
        gradient: its gradient, flat; empty for kernels that do not use it.
        step_size: of every block, (n_offsets, n_blocks).
        accept_prob: mean acceptance probability of the last sweep; mean_accept: of all draws so far.
        potential_energy: minus the log-density of innovations and data.
    """

    i: Array
    z: dict[str, Array]
    log_likelihood: Array
    gradient: Array
    step_size: Array
    accept_prob: Array
    mean_accept: Array
    potential_energy: Array
    num_warmup: Array
    rng_key: Array


class InnovationKernel(PathKernel):
    """Updates the sites `….innovations` of a model, given all others.

    Args:
        model: a NumPyro model that contains `mjp.sample` of guided graphs.
        sites: the sites to update; by default all whose name ends in `.innovations`.
        target_accept: acceptance probability that the steps are adapted to during warm-up.
    """

    def __init__(self, model: Callable, sites: Sequence[str] | None = None, target_accept: float = 0.5):
        if not 0 < target_accept < 1:
            raise ValueError(f"target_accept must be in (0, 1), got {target_accept!r}")
        super().__init__(model, sites)
        self._target = target_accept

    @abstractmethod
    def _step_sizes(self, size: int) -> Array:
        """First step sizes."""

    def get_diagnostics_str(self, state: Any) -> Any:
        return f"{type(self).__name__} acc. prob={float(state.mean_accept):.2f}"

    def init(
        self, rng_key: Array, num_warmup: int, init_params: Any, model_args: tuple, model_kwargs: dict | None
    ) -> InnovationState:
        """Start at zero innovations, which is the mean of the guide.

        Raises:
            ValueError: a model without innovations, or a batch of keys.
        """
        check_one_key(self, rng_key)
        shapes = self._shapes(init_params, model_args, model_kwargs)
        z = {name: jnp.zeros(shape, jnp.result_type(float)) for name, shape in shapes.items()}
        flat, _ = ravel_pytree(z)
        sizes = self._step_sizes(flat.size)
        zero = jnp.zeros((), flat.dtype)
        state = InnovationState(
            i=jnp.zeros((), jnp.int32),
            z=z,
            log_likelihood=zero,
            gradient=jnp.zeros(0),
            step_size=sizes,
            accept_prob=zero,
            mean_accept=zero,
            potential_energy=zero,
            num_warmup=jnp.asarray(num_warmup, jnp.int32),
            rng_key=rng_key,
        )
        return self.refresh(state, model_args, model_kwargs)

    def _shapes(self, init_params: Any, args: tuple, kwargs: dict | None) -> dict[str, tuple[int, ...]]:
        wanted = self._sites
        if init_params:
            return {n: jnp.shape(v) for n, v in init_params.items() if wanted is None or n in wanted}
        from numpyro.infer.gibbs import latent_sample_sites, prototype_trace

        found = prototype_trace(self._model, jax.random.key(0), args, kwargs)
        latent = latent_sample_sites(found)
        names = [n for n in latent if n.endswith(INNOVATIONS)] if wanted is None else list(wanted)
        unknown = [n for n in names if n not in latent]
        if unknown or not names:
            what = f"has no latent site {unknown[0]!r}" if unknown else "has no site of innovations"
            raise ValueError(f"model {what}; its latent sites are {list(latent)}")
        return {n: jnp.shape(found[n]["value"]) for n in names}

    def refresh(self, state: Any, model_args: tuple, model_kwargs: dict | None) -> Any:
        flat, unravel = ravel_pytree(state.z)
        value = self._log_likelihood(unravel, model_args, model_kwargs)(flat)
        return state._replace(log_likelihood=value, potential_energy=0.5 * flat @ flat - value)

    def _log_likelihood(self, unravel: Callable, args: tuple, kwargs: dict | None) -> Callable:
        """The log-density of all but the innovations, as a function of their flat vector.

        Their own law never enters: proposals preserve it, and in float32 its difference would not be exact.
        """

        def evaluate(flat: Array) -> Array:
            z = unravel(flat)
            _, trace = log_density(self._model, args, kwargs or {}, z)
            total = jnp.zeros((), flat.dtype)
            for name, site in trace.items():
                if site["type"] == "sample" and name not in z:
                    term = site["fn"].log_prob(site["value"])
                    total = total + jnp.sum(term if site["scale"] is None else site["scale"] * term)
            return never_if_nan(total)

        return evaluate

    def _finish(self, state: InnovationState, accept: Array) -> InnovationState:
        """Count the draw, and forget the warm-up's acceptance when it ends."""
        i = state.i + 1
        n = jnp.where(i <= state.num_warmup, i, i - state.num_warmup)
        mean = state.mean_accept + (accept - state.mean_accept) / n
        flat, _ = ravel_pytree(state.z)
        return state._replace(
            i=i,
            accept_prob=accept,
            mean_accept=mean,
            potential_energy=0.5 * flat @ flat - state.log_likelihood,
        )
