"""Rules of processes whose parents may be of any family."""

from mjp.inference.rules.registry import register
from mjp.processes import ConditionalCategorical, ConditionalGaussian


@register(ConditionalGaussian)
@register(ConditionalCategorical)
class ConditionalRule:
    """Pullback and guide are those of a factor, see `mjp.inference.joint_factors`."""

    engine = "mixed families"
