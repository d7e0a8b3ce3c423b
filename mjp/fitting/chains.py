"""Run the chains of a NumPyro kernel side by side, in blocks that can be watched, stored and resumed."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpyro.infer.mcmc import MCMCKernel

from mjp.fitting.checkpoint import Checkpoint
from mjp.numpyro_bridge import structure_only

# for a program that runs once per chain: most of its time would go to optimising it
HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

ANY = ("diverging", "overflow")  # reported for a draw if any iteration since the last draw had them
SUMMED = ("overflow",)  # over the blocks of a Gibbs kernel; others are those of the first block that has them
STATISTICS = (
    "diverging",
    "num_steps",
    "accept_prob",
    "potential_energy",
    "energy",
    "adapt_state.step_size",
    "jumped",
    "particle_ess",
    "renewed",
    "moved",
    "overflow",
    "overflow_share",
)


class Runner:
    """Compiled programs of one kernel: start a chain, and advance it by a block of iterations.

    JAX executes programs from several threads at once on the CPU, so chains run in parallel without
    any setting made before JAX starts; programs are compiled beforehand, because NumPyro's handlers
    are not made for threads.
    """

    def __init__(
        self, make_kernel: Callable[[], MCMCKernel], args: tuple, kwargs: dict, warmup: int, block: int
    ):
        self._make_kernel, self._args, self._kwargs = make_kernel, args, kwargs
        self._warmup, self.block = warmup, block
        start = jax.jit(self._start).trace(jax.random.key(0))
        self.state = start.out_info
        advance = jax.jit(self._advance).trace(self.state, 0, 1)
        self.draw = advance.out_info[1]
        self.start = start.lower().compile(compiler_options=HASTY)
        self.advance = advance.lower().compile()

    def _start(self, key: jax.Array) -> Any:
        return self._make_kernel().init(key, self._warmup, None, self._args, self._kwargs)

    def _advance(self, state: Any, n: Any, thinning: Any) -> tuple[Any, Any]:
        """Advance by n <= block draws, each the last of `thinning` iterations.

        Rows beyond n of the returned draws are not used.
        """
        kernel = self._make_kernel()
        with structure_only():  # sets up the kernel's functions; its state is not used
            kernel.init(jax.random.key(0), self._warmup, None, self._args, self._kwargs)
        constrain = kernel.postprocess_fn(self._args, self._kwargs)

        def collect(state: Any) -> Any:
            return constrain(getattr(state, kernel.sample_field)), _statistics(state)

        empty = jax.tree.map(
            lambda leaf: jnp.zeros((self.block, *leaf.shape), leaf.dtype), jax.eval_shape(collect, state)
        )

        def iterate(_: Any, carry: tuple[Any, dict]) -> tuple[Any, dict]:
            state, before = carry
            state = kernel.sample(state, self._args, self._kwargs)
            now = _statistics(state)
            return state, {name: jnp.maximum(value, now[name]) for name, value in before.items()}

        def body(i: Any, carry: tuple[Any, Any]) -> tuple[Any, Any]:
            state, rows = carry
            none = {name: jnp.zeros_like(v) for name, v in _statistics(state).items() if name in ANY}
            state, found = lax.fori_loop(0, thinning, iterate, (state, none))
            draw, statistics = collect(state)
            row = (draw, {**statistics, **found})
            return state, jax.tree.map(lambda row, leaf: row.at[i].set(leaf), rows, row)

        return lax.fori_loop(0, n, body, (state, empty))


def _statistics(state: Any) -> dict[str, Any]:
    """What a kernel, or each block of a Gibbs kernel, reports of its last step."""
    found: dict[str, Any] = {}
    blocks = [*getattr(state, "block_states", ()), state]
    blocks += [state.nuts] if hasattr(state, "nuts") else []
    for block in blocks:
        for name in STATISTICS:
            try:
                value = reduce(getattr, name.split("."), block)
            except AttributeError:
                continue
            found[name] = found.get(name, 0) + value if name in SUMMED else found.get(name, value)
    return found


def run_chains(
    runner: Runner,
    keys: jax.Array,
    warmup: int,
    draws: int,
    thinning: int,
    report: Callable[[int, int, dict[str, Any]], None],
    checkpoint: Checkpoint | None,
    check_start: Callable[[Any], None],
) -> tuple[Any, Any, int]:
    """Run one chain per key.

    Args:
        thinning: iterations per draw, after the warm-up.
        report: called as report(chain, iterations done, last statistics) after every block.
        check_start: called with a chain's first state; raises if the chain cannot start there.

    Returns:
        draws with axes (chain, draw, ...); the last state of each chain, stacked; and the number of
        draws per chain, smaller than asked for if the run was interrupted from the keyboard.
    """
    stop = threading.Event()
    results: list[tuple[Any, list[Any]] | None] = [None] * len(keys)
    starts = [
        checkpoint.load(chain, runner.state, runner.draw) if checkpoint else None
        for chain in range(len(keys))
    ]
    for chain, stored in enumerate(starts):
        if stored is None:
            state = runner.start(keys[chain])
            check_start(state)
            starts[chain] = (0, state, [])

    def one(chain: int) -> None:
        start = starts[chain]
        assert start is not None
        done, state, kept = start
        results[chain] = (state, kept)
        while done < warmup + draws and not stop.is_set():
            end = warmup if done < warmup else warmup + draws
            n = min(runner.block, end - done)
            state, rows = runner.advance(state, n, 1 if done < warmup else thinning)
            rows = jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[:n], rows)
            if done >= warmup:
                kept = [*kept, rows]
            done += n
            results[chain] = (state, kept)
            if checkpoint:
                checkpoint.save(chain, done, state, kept)
            report(chain, done, {name: value[-1] for name, value in rows[1].items()})

    workers = min(len(keys), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(one, chain) for chain in range(len(keys))]
        try:
            for future in futures:
                future.result()
        except KeyboardInterrupt:
            stop.set()
        except BaseException:
            stop.set()
            raise
    finished = [result for result in results if result is not None]
    rows = [jax.tree.map(lambda *b: np.concatenate(b), *kept) for _, kept in finished if kept]
    if len(rows) < len(keys):
        raise KeyboardInterrupt("the run was interrupted before every chain had left its warm-up")
    common = min(len(jax.tree.leaves(row)[0]) for row in rows)
    joined = jax.tree.map(lambda *leaves: np.stack([leaf[:common] for leaf in leaves]), *rows)
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[state for state, _ in finished])
    return joined, states, common
