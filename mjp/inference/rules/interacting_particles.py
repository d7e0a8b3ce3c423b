"""Rules of interacting particles."""

from mjp.inference.rules.registry import register
from mjp.processes import InteractingJumps, InteractingParticles


@register(InteractingParticles)
class InteractingParticlesRule:
    """Agents with finitely many states that step together."""

    engine = "particles"


@register(InteractingJumps)
class InteractingJumpsRule:
    """Agents with finitely many states that jump one at a time."""

    engine = "jumping particles"
