"""Counting processes: the classical jump processes on one count."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from mjp._checks import check_times, is_concrete
from mjp.processes.reaction_network import ReactionNetwork

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(5)


class CountingProcess(ReactionNetwork):
    """One count that goes up and down by one: Poisson, Yule, pure death, birth and death, immigration.

    A `ReactionNetwork` of one species. Where its transition probabilities are known in closed form (all of
    the above with constant rates) and counts are seen without error, guides are these probabilities, and
    the evidence is their product.

    Args:
        arrival: rate at which the count goes up by one, whatever it is ("0 -> X").
        birth: rate at which every individual splits ("X -> 2 X").
        death: rate at which every individual goes ("X -> 0"): in a blackout, the hazard of a failure.
        name: of what is counted.
        breaks: increasing times at which rates change.

    A rate is a number; with p `breaks`, an array (p + 1,); or a function of time, the intensity. An intensity
    is replaced by its mean between breaks, so that numbers of events between breaks have the law that they
    should have; before the first break and after the last one it keeps its value there.

    Raises:
        ValueError: no rate at all, rates that are negative or not finite, an intensity without breaks.
        TypeError: rates that are neither numbers nor functions of time.

    Example:
        >>> failures = mjp.CountingProcess(death=0.3)
        >>> graph = mjp.chain(failures, [0.0, 1.0, 2.5], initial=20)
        >>> mjp.condition(graph.observe_each(mjp.Exactly(), [jnp.nan, 15, 9])).log_evidence
    """

    events: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        arrival: Any = None,
        birth: Any = None,
        death: Any = None,
        *,
        name: str = "X",
        breaks: Sequence[float] = (),
    ):
        given = {"arrival": arrival, "birth": birth, "death": death}
        texts = {"arrival": f"0 -> {name}", "birth": f"{name} -> 2 {name}", "death": f"{name} -> 0"}
        given = {event: rate for event, rate in given.items() if rate is not None}
        if not given:
            raise ValueError("give at least one of the rates arrival, birth and death")
        times = check_times("breaks", breaks) if np.size(breaks) else np.zeros(0)
        rates = {event: _rate(event, rate, times) for event, rate in given.items()}
        super().__init__([(texts[event], rate) for event, rate in rates.items()], [name], breaks=breaks)
        self.events = tuple(rates)

    def known_state(self, name: str, value: Any) -> Any:
        return super().known_state(
            name, [value] if np.ndim(value) == 0 and not isinstance(value, str) else value
        )


def _rate(event: str, rate: Any, breaks: np.ndarray) -> Any:
    """A number or an array (pieces,), from either or from an intensity."""
    if not callable(rate):
        if is_concrete(rate) and not np.issubdtype(np.asarray(rate).dtype, np.number):
            raise TypeError(f"{event} must be a rate or a function of time, got {rate!r}")
        return rate
    if not len(breaks):
        raise ValueError(
            f"{event} is a function of time and needs breaks, between which it is replaced by its mean; give "
            "breaks that are as dense as needed"
        )
    shape = jax.eval_shape(lambda t: jnp.asarray(rate(t)), jnp.ones(())).shape
    if shape != ():
        raise ValueError(f"{event} must return one number, got shape {shape}")
    of: Callable = jax.vmap(lambda t: jnp.asarray(rate(t), jnp.result_type(float)))
    middle, half = (breaks[1:] + breaks[:-1]) / 2, (breaks[1:] - breaks[:-1]) / 2
    points = middle[:, None] + half[:, None] * _POINTS
    means = of(jnp.asarray(points.reshape(-1))).reshape(points.shape) @ jnp.asarray(_WEIGHTS) / 2
    first, last = of(jnp.asarray(breaks[[0, -1]]))
    return jnp.concatenate([first[None], means, last[None]])
