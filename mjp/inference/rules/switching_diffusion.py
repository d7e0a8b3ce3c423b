"""Switching diffusions are conditioned by an engine of their own, with potentials by regime."""

from mjp.inference.rules.registry import register
from mjp.processes.switching_diffusion import SwitchingDiffusion


@register(SwitchingDiffusion)
class SwitchingDiffusionRule:
    engine = "switching"
