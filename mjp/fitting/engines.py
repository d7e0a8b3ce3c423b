"""Which kernel infers a model."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpyro.infer import HMC, NUTS, Gibbs, init_to_median
from numpyro.infer.mcmc import MCMCKernel

from mjp.inference.agent_jump_law import AgentJumpLaw
from mjp.inference.agent_path_law import AgentPathLaw
from mjp.inference.kernels import (
    CrankNicolson,
    IndividualForwardBackward,
    IndividualUniformization,
    ParticleGibbs,
    ParticleMarginal,
    PseudoMarginal,
)
from mjp.inference.kernels.agent_gibbs import AgentGibbs
from mjp.inference.state_path_law import StatePathLaw
from mjp.numpyro_bridge import HIDDEN, PATH, ROOTS, ROUGH, latent_sites

_BLOCK = 8  # innovations that are proposed together, where paths jump
_SWEEPS = 4  # through the agents, whose paths are cheaper to draw than NUTS given paths is, and slower to mix
_PER_PARAMETER = 16  # draws of the warm-up without which a dense mass matrix is not well estimated
_MOVES = 10  # pseudo-marginal ones per draw, which are cheap
_DENSE_UP_TO = 60  # parameters


def check_engine(engine: Any) -> None:
    """Raise TypeError for what is neither a name nor a NumPyro kernel, ValueError for an unknown name."""
    if not isinstance(engine, str | MCMCKernel):
        raise TypeError(f"engine must be a name or a NumPyro kernel, got {type(engine).__name__}")
    if isinstance(engine, str) and engine not in ("auto", "nuts"):
        raise ValueError(f"engine must be 'auto', 'nuts' or a NumPyro kernel, got {engine!r}")


def choose_engine(
    model: Callable,
    engine: str | MCMCKernel,
    args: tuple,
    kwargs: dict,
    warmup: int = 1000,
    particles: int | None = None,
) -> tuple[str, Callable[[], MCMCKernel]]:
    """Name of the engine and a maker of fresh kernels.

    NUTS starts every chain at the median of some prior draws, another one for each chain: where a posterior
    has several modes, such as those with labels switched, the prior says which is meant.

    Args:
        particles: of filters that tell the evidence of all paths well enough; None for none.

    Raises:
        ValueError: a model without latent sites, or with discrete ones; an engine that does not suit it.
    """
    sites = latent_sites(model, args, kwargs)
    states = [name for name, site in sites.items() if isinstance(site["fn"], StatePathLaw)]
    if states:
        raise ValueError(
            f"model: the path {states[0]!r} of finitely many states is a site; mjp.fit marginalises it "
            "without latent='path'. With it, run numpyro.infer.MCMC"
        )
    paths = [name for name in sites if name.endswith((PATH, ROOTS))]
    if isinstance(engine, HMC) and paths:
        raise ValueError(f"engine: {type(engine).__name__} cannot sample the path {paths[0]!r}, which jumps")
    if isinstance(engine, MCMCKernel):
        return type(engine).__name__, lambda: _fresh(engine)
    if not sites:
        raise ValueError("model has no latent sites, so there is nothing to infer; use mjp.condition")
    discrete = [n for n, site in sites.items() if site["fn"].support.is_discrete and n not in paths]
    if discrete:
        raise ValueError(
            f"model: the latent site {discrete[0]!r} is discrete, which NUTS cannot sample; declare it as a "
            "state of a process, or pass a NumPyro Gibbs kernel as engine"
        )
    parameters = [name for name in sites if not name.endswith(HIDDEN)]
    if engine == "nuts" and paths:
        raise ValueError(f"engine: NUTS cannot sample the path {paths[0]!r}, which jumps; use 'auto'")
    if particles is not None:
        make = lambda: PseudoMarginal(model, particles=particles, moves=_MOVES)
        return f"pseudo-marginal moves, {particles} particles", make
    agents = [name for name in paths if isinstance(sites[name]["fn"], AgentPathLaw | AgentJumpLaw)]
    size = sum(int(np.size(sites[name]["value"])) for name in parameters)
    dense = size <= min(_DENSE_UP_TO, warmup // _PER_PARAMETER)
    if agents:
        laws = {name: sites[name]["fn"] for name in agents}
        return _agents(model, laws, [n for n in paths if n not in agents], bool(parameters), dense)
    if paths:
        if not parameters:
            return "particle Gibbs", lambda: Gibbs([(ParticleGibbs(model), paths)])
        return (
            "particle Gibbs, NUTS given paths, particle marginal moves",
            lambda: ParticleMarginal(model, dense_mass=dense),
        )
    rough = [name for name, site in sites.items() if site["infer"].get(ROUGH)]
    if rough:
        if engine == "nuts":
            raise ValueError(f"engine: NUTS cannot sample {rough[0]!r}, with which a path jumps; use 'auto'")
        return _rough(
            model, rough, len(rough) < len(sites), sum(int(np.size(sites[n]["value"])) for n in rough)
        )
    if len(parameters) == len(sites):
        return "NUTS", lambda: _nuts(model, dense)
    # given a good guide, innovations are nearly standard normal and independent of the parameters
    blocks: Any = [tuple(parameters)] if parameters and dense else False
    return "NUTS on parameters and innovations", lambda: _nuts(model, blocks)


def _nuts(model: Callable, dense: Any = False) -> NUTS:
    return NUTS(model, dense_mass=dense, init_strategy=init_to_median)


def _rough(
    model: Callable, rough: list[str], others: bool, size: int
) -> tuple[str, Callable[[], MCMCKernel]]:
    """Gibbs over innovations with which paths jump, and all else given these."""

    def make() -> MCMCKernel:
        own = CrankNicolson(model, rough, blocks=-(-size // _BLOCK))
        return Gibbs([(own, rough), (_nuts(model), None)]) if others else own

    return "pCN on innovations" + (", NUTS given innovations" if others else ""), make


def _agents(
    model: Callable,
    agents: dict[str, AgentPathLaw | AgentJumpLaw],
    counts: list[str],
    parameters: bool,
    dense: bool,
) -> tuple[str, Callable[[], MCMCKernel]]:
    """Gibbs over paths of interacting particles, those of reaction networks, and parameters."""
    in_steps = [name for name, law in agents.items() if isinstance(law, AgentPathLaw)]
    in_time = [name for name in agents if name not in in_steps]
    names = ["forward-backward by agent"] if in_steps else []
    names += ["uniformization by agent"] if in_time else []
    names += [*(["particle Gibbs"] if counts else []), *(["NUTS given paths"] if parameters else [])]
    one_by_one = any(law.model.totals_seen for law in agents.values())  # and a sweep takes long

    def make() -> MCMCKernel:
        sweeps = 1 if one_by_one else _SWEEPS
        blocks: list[Any] = []
        blocks += [(IndividualForwardBackward(model, sweeps=sweeps), in_steps)] if in_steps else []
        blocks += [(IndividualUniformization(model), in_time)] if in_time else []
        blocks += [(ParticleGibbs(model), counts)] if counts else []
        blocks += [(_nuts(model, dense), None)] if parameters else []
        return AgentGibbs(blocks)

    return ", ".join(names), make


def _fresh(kernel: MCMCKernel) -> MCMCKernel:
    """A copy without what an earlier compilation left in the kernel."""
    fresh = copy.copy(kernel)
    for attribute in ("_init_fn", "_sample_fn", "_postprocess_fn"):
        if hasattr(fresh, attribute):
            setattr(fresh, attribute, None)
    return fresh
