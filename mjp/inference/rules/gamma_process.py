"""Gamma processes are conditioned by the engine of Gamma tails."""

from mjp.inference.rules.registry import register
from mjp.processes.gamma_process import GammaProcess


@register(GammaProcess)
class GammaProcessRule:
    engine = "gamma tails"
