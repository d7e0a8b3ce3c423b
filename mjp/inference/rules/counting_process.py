"""Rules of counting processes: those of reaction networks, and transition probabilities in closed form."""

from collections.abc import Callable

from mjp._checks import is_concrete
from mjp.inference.rules.reaction_network import ReactionNetworkRule
from mjp.inference.rules.registry import register
from mjp.inference.transition_probabilities import birth_death, immigration_death, poisson, pure_death
from mjp.processes.counting_process import CountingProcess


@register(CountingProcess)
class CountingProcessRule(ReactionNetworkRule):
    """Counts of one species, with closed forms where rates are constant and known."""

    def closed_form(self, process: CountingProcess) -> Callable | None:
        """Log-probability of a count v a time t after x, as a function of (x, v, t); None without one.

        The function becomes part of a compiled guide, for which rates need to be known numbers.
        """
        if process.breaks or not all(is_concrete(rate) for rate in process.rates):
            return None
        forms: dict[tuple[str, ...], Callable] = {
            ("arrival",): poisson,
            ("birth",): lambda birth: birth_death(birth, 0.0),
            ("death",): pure_death,
            ("birth", "death"): birth_death,
            ("arrival", "death"): immigration_death,
        }
        form = forms.get(process.events)
        return None if form is None else form(*process.rates)
