"""First states of processes that carry more than what is asked for."""

from typing import Any

from numpyro.distributions import Distribution, MultivariateNormal

from mjp.processes import FractionalDiffusion


def fractional_start(process: FractionalDiffusion, x: Any) -> Distribution | Any:
    """`initial` of a graph whose edges carry a diffusion with fractional noise, and whose X starts at x.

    Noise with a past (type I) gives a law, in which X is known and the noise stationary; noise of type II a
    value.

    Args:
        x: (dim,) of X, or a number.

    Raises:
        TypeError: `process` is not one that `FractionalNoise.drive` made.
    """
    if not isinstance(process, FractionalDiffusion):
        raise TypeError(f"process must be a FractionalDiffusion, got {type(process).__name__}")
    mean, factor = process.start_moments(x)
    if not process.noise.stationary:
        return mean
    # what is known makes rows of zeros, which NumPyro's check of a factor would refuse
    return MultivariateNormal(mean, scale_tril=factor, validate_args=False)
