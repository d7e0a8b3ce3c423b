"""Heart transplant vasculopathy in float64: one gradient of the panel likelihood, and the whole posterior.

The posterior is timed in a process of its own, from the call of `mjp.fit` to its return: tracing,
compilation, warm-up and draws count, imports and reading the table do not. It is compared with the time that
R's msm takes for the maximum of the same likelihood, which is a number measured beforehand.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from common import compiled, emit, interleave, median_ms

MSM_SECONDS = 1.468  # R 4.2.2, msm: maximum likelihood of the same model on the same data, hessian included


def gradient(seconds: float) -> None:
    """Time value and gradient of the log-likelihood in seven log-rates."""
    import jax
    import jax.numpy as jnp

    from mjp.models import cav

    visits = cav.load()
    log_rates = jnp.full(len(cav.TRANSITIONS), -2.0)
    program, trace, compilation = compiled(
        jax.value_and_grad(lambda rates: cav.log_likelihood(rates, visits)), log_rates
    )
    times = interleave({"mjp": lambda: program(log_rates)}, seconds, most=2000)["mjp"]
    emit(
        "cav",
        "622 subjects",
        "value + gradient",
        median_ms(times),
        target="< 1 ms",
        fastest_ms=float(1e3 * times.min()),
        trace_s=trace,
        compile_s=compilation,
        rounds=len(times),
    )


def posterior(seed: int) -> None:
    """Fit once and print the seconds and the verdict on convergence."""
    from mjp import fit
    from mjp.models import registry

    entry = registry.get("cav")
    visits = entry.load()
    began, processor = time.perf_counter(), time.process_time()
    result = fit(entry.model, visits, progress=False, seed=seed, **entry.settings)
    seconds = time.perf_counter() - began
    processor = time.process_time() - processor
    table = result.summary(var_names=list(result.parameters), round_to="none")
    found = {
        "seconds": seconds,
        "processor_s": processor,
        "compilation_s": result.seconds["compilation"],
        "rhat": float(np.max(table["r_hat"])),
        "ess": float(np.min(table["ess_bulk"])),
    }
    print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one fit instead of three")
    parser.add_argument("--worker", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args()

    import jax

    jax.config.update("jax_enable_x64", True)
    if options.worker is not None:
        return posterior(options.worker)
    gradient(1.0 if options.quick else 5.0)
    runs = []
    for seed in range(1 if options.quick else 3):
        command = [sys.executable, __file__, "--worker", str(seed)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds = float(np.median([run["seconds"] for run in runs]))
    emit(
        "cav",
        "4 chains x (1000 + 1000)",
        "posterior, compilation included",
        seconds,
        unit="s",
        peer="msm, maximum only",
        peers=MSM_SECONDS,
        ratio=MSM_SECONDS / seconds,
        target="<= 14.7 s",
        repeats=len(runs),
        processor_s=float(np.median([run["processor_s"] for run in runs])),
        compilation_s=float(np.median([run["compilation_s"] for run in runs])),
        largest_rhat=max(run["rhat"] for run in runs),
        least_ess=min(run["ess"] for run in runs),
    )


if __name__ == "__main__":
    main()
