"""Rules of reaction networks."""

from mjp.inference.rules.registry import register
from mjp.processes import ReactionNetwork


@register(ReactionNetwork)
class ReactionNetworkRule:
    """Jump processes on counts, simulated by the direct method."""

    engine = "counts"
