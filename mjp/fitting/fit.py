"""Infer a NumPyro model that contains mjp processes."""

import hashlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpyro.infer.mcmc import MCMCKernel

from mjp.fitting.anchoring import prepared
from mjp.fitting.chains import Runner, run_chains
from mjp.fitting.checkpoint import Checkpoint
from mjp.fitting.diagnose import explain_bad_start
from mjp.fitting.engines import check_engine, choose_engine
from mjp.fitting.pilot import filters_suffice
from mjp.fitting.progress import ChainProgress
from mjp.fitting.result import Fit

_BLOCK = 100  # iterations between two looks at a chain


def fit(
    model: Callable,
    *args: Any,
    engine: str | MCMCKernel = "auto",
    draws: int = 1000,
    warmup: int = 1000,
    chains: int = 4,
    thinning: int = 1,
    seed: int = 0,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    coords: dict[str, Any] | None = None,
    dims: dict[str, list[str]] | None = None,
    **kwargs: Any,
) -> Fit:
    """Draw from the posterior of a NumPyro model; chains run in parallel threads.

    Args:
        model: a NumPyro model; args, kwargs: its arguments.
        engine: "auto", "nuts", or a NumPyro kernel made for `model`, whose guides are linearised anew for
            every value of the parameters. "auto" is NUTS on the parameters, exactly conditioned paths
            marginalised, and on the innovations of guided paths, whose guides are linearised once at the
            prior median. Jump paths of reaction networks, and graphs that mix families, are drawn by
            `mjp.inference.PseudoMarginal` where parameters are few and a pilot run finds that filters will
            do; else those of networks by `mjp.inference.ParticleMarginal`, and the others by
            `mjp.inference.CrankNicolson` beside NUTS.
        draws, warmup: iterations kept and thrown away, per chain.
        thinning: iterations per draw that is kept, for chains that are slow and states that are large;
            divergences in between are counted.
        seed: fixes the result; the same seed gives the same draws, resumed or not.
        progress: show a bar per chain.
        checkpoint: a directory in which the run is stored as it goes; a killed run that is started
            again with the same arguments goes on where it was, and ends with the same draws.
        coords, dims: labels for the axes of vector-valued sites, as in ArviZ; `coords[name + "_coordinate"]`
            names the coordinates of a path of vectors, `coords[name + "_event_0"]` what is observed of it.

    Raises:
        ValueError: numbers that are not positive, a checkpoint of another run, data that are
            impossible under the model (named, with the subjects).

    Warns:
        UserWarning: divergent transitions, chains that have not mixed, particles without room for their
            events.
    """
    numbers = (("draws", draws, 1), ("warmup", warmup, 0), ("chains", chains, 1), ("thinning", thinning, 1))
    for name, value, least in numbers:
        if int(value) != value or value < least:
            raise ValueError(f"{name} must be an integer >= {least}, got {value!r}")
    check_engine(engine)
    began = time.perf_counter()
    particles = None
    # a kernel draws with the guides of the model as it is, and its paths are read with them
    if not isinstance(engine, MCMCKernel):
        filtering = filters_suffice(model, args, kwargs) if engine == "auto" else None
        model = filtering.model if filtering is not None else prepared(model, args, kwargs)
        particles = None if filtering is None else filtering.particles
    name, make_kernel = choose_engine(model, engine, args, kwargs, warmup, particles)
    block = min(_BLOCK, max(warmup, draws))
    runner = Runner(make_kernel, args, kwargs, warmup, block)
    settings = {
        "model": getattr(model, "__qualname__", type(model).__name__),
        "engine": name,
        "draws": draws,
        "warmup": warmup,
        "chains": chains,
        "thinning": thinning,
        "seed": seed,
        "state": _fingerprint(runner.state),
    }
    store = Checkpoint(checkpoint, settings) if checkpoint is not None else None
    keys = jax.random.split(jax.random.key(seed), chains)
    check_start = lambda state: explain_bad_start(state, model, args, kwargs)
    compiled = time.perf_counter()
    with ChainProgress(chains, warmup, draws, progress) as bars:
        (samples, statistics), states, kept = run_chains(
            runner, keys, warmup, draws, thinning, bars.report, store, check_start
        )
    seconds = {"compilation": compiled - began, "sampling": time.perf_counter() - compiled}
    if kept < draws:
        warnings.warn(f"the run was interrupted; {kept} of {draws} draws per chain are kept", stacklevel=2)
    result = Fit(
        model=model,
        args=args,
        kwargs=kwargs,
        engine=name,
        samples={site: np.asarray(value) for site, value in samples.items()},
        statistics={key: np.asarray(value) for key, value in statistics.items()},
        last_states=states,
        make_kernel=make_kernel,
        settings={**settings, "draws": kept},
        seconds=seconds,
        coords=coords or {},
        dims=dims or {},
    )
    for message in result.problems():
        warnings.warn(message, stacklevel=2)
    return result


def _fingerprint(state: Any) -> str:
    """Shapes of a chain's state, which tell runs of different models apart."""
    shapes = str([(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)])
    return hashlib.sha256(shapes.encode()).hexdigest()[:16]
