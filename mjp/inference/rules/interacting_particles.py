"""Rules of interacting particles."""

from mjp.inference.rules.registry import register
from mjp.processes import InteractingParticles


@register(InteractingParticles)
class InteractingParticlesRule:
    """Agents with finitely many states that step together."""

    engine = "particles"
