"""Rules of factorial chains."""

from mjp.inference.rules.registry import register
from mjp.processes import FactorialChain


@register(FactorialChain)
class FactorialChainRule:
    """Chains that move independently and are observed together."""

    engine = "factorial chains"
