"""NUTS on a hidden Markov model (K = 3, T = 500, 6 symbols): smallest effective sample size per second.

The same Dirichlet priors and the same sampler (1000 + 1000 iterations, one chain) for `mjp.sample`, NumPyro's
enumeration, and dynamax's filter in a factor. Each run is a process of its own, and the three take turns. A
run samples twice: the first time includes compilation, the second does not.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from common import emit, one_of

N_STATES, LENGTH, SYMBOLS = 3, 500, 6
METHODS = ("mjp", "enumeration", "dynamax")
TARGETS = {"enumeration": ">= 3x", "dynamax": ">= 1.2x"}

TRANSITION = np.array([[0.9, 0.07, 0.03], [0.05, 0.9, 0.05], [0.05, 0.15, 0.8]])
EMISSION = np.array(
    [
        [0.5, 0.25, 0.1, 0.05, 0.05, 0.05],
        [0.05, 0.05, 0.4, 0.4, 0.05, 0.05],
        [0.05, 0.05, 0.05, 0.05, 0.3, 0.5],
    ]
)


def data() -> np.ndarray:
    """Symbols (T,) of a simulated series."""
    rng = np.random.default_rng(7)
    state, observed = 0, []
    for _ in range(LENGTH):
        observed.append(rng.choice(SYMBOLS, p=EMISSION[state]))
        state = rng.choice(N_STATES, p=TRANSITION[state])
    return np.asarray(observed, np.int32)


def make_model(method: str) -> Callable[[], None]:
    """The NumPyro model; asymmetric priors pin the labels of the states."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    observed = data()
    first = jnp.full(N_STATES, 1 / N_STATES)
    steps, symbols = jnp.ones((N_STATES, N_STATES)) + 4 * jnp.eye(N_STATES), jnp.asarray(1 + 6 * EMISSION)

    def parameters() -> tuple[Any, Any]:
        a = numpyro.sample("transition", dist.Dirichlet(steps).to_event(1))
        b = numpyro.sample("emission", dist.Dirichlet(symbols).to_event(1))
        return a, b

    if method == "mjp":
        import mjp

        def model() -> None:
            a, b = parameters()
            chain = mjp.chain(mjp.MarkovChain(a), np.arange(LENGTH), initial=dist.Categorical(first))
            mjp.sample("path", chain.observe_each(lambda x: dist.Categorical(b[x]), observed))

    elif method == "dynamax":
        from dynamax.hidden_markov_model.inference import hmm_filter

        y = jnp.asarray(observed)

        def model() -> None:
            a, b = parameters()
            numpyro.factor("log_likelihood", hmm_filter(first, a, jnp.log(b).T[y]).marginal_loglik)

    else:
        import funsor  # noqa: F401 (loaded here, so that its import is not timed)
        from numpyro.contrib.control_flow import scan

        y = jnp.asarray(observed)

        def model() -> None:
            a, b = parameters()
            state = numpyro.sample("x0", dist.Categorical(first), infer={"enumerate": "parallel"})
            numpyro.sample("y0", dist.Categorical(b[state]), obs=y[0])

            def step(state: Any, value: Any) -> tuple[Any, None]:
                state = numpyro.sample("x", dist.Categorical(a[state]), infer={"enumerate": "parallel"})
                numpyro.sample("y", dist.Categorical(b[state]), obs=value)
                return state, None

            scan(step, state, y[1:])

    return model


def work(method: str, seed: int, iterations: int) -> None:
    """Sample twice and print what came out."""
    import jax
    from numpyro.diagnostics import effective_sample_size
    from numpyro.infer import MCMC, NUTS

    mcmc = MCMC(
        NUTS(make_model(method)),
        num_warmup=iterations,
        num_samples=iterations,
        num_chains=1,
        progress_bar=False,
    )
    found: dict[str, float] = {}
    for when in ("first", "warm"):
        began = time.perf_counter()
        mcmc.run(jax.random.key(seed), extra_fields=("num_steps",))
        draws = jax.block_until_ready(mcmc.get_samples(group_by_chain=True))
        seconds = time.perf_counter() - began
        sizes = [effective_sample_size(np.asarray(draws[s])).ravel() for s in ("transition", "emission")]
        least = float(np.concatenate(sizes).min())
        found |= {f"{when}_s": seconds, f"{when}_rate": least / seconds, f"{when}_ess": least}
    found["steps"] = float(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
    found["stays"] = float(np.asarray(draws["transition"]).mean((0, 1)).trace())
    print(json.dumps(found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one repeat of 200 + 200 iterations")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "SEED", "ITERATIONS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        method, seed, iterations = options.worker
        return work(one_of(method, METHODS), int(seed), int(iterations))
    iterations = 200 if options.quick else 1000
    runs: dict[str, list[dict]] = {method: [] for method in METHODS}
    for seed in range(1 if options.quick else options.repeats):
        for method in METHODS:
            command = [sys.executable, __file__, "--worker", method, str(seed), str(iterations)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[method].append(json.loads(done.stdout.splitlines()[-1]))
    for when, words in (("first", "with compilation"), ("warm", "without compilation")):
        rate = {m: np.asarray([run[f"{when}_rate"] for run in runs[m]]) for m in METHODS}
        for peer in METHODS[1:]:
            emit(
                "hmm_nuts",
                "K=3 T=500",
                f"least ESS per second {words}",
                float(np.median(rate["mjp"])),
                unit="1/s",
                peer=peer,
                peers=float(np.median(rate[peer])),
                ratio=float(np.median(rate["mjp"] / rate[peer])),
                target=TARGETS[peer] if when == "first" else "",
                repeats=len(rate["mjp"]),
                seconds=float(np.median([run[f"{when}_s"] for run in runs["mjp"]])),
                peers_seconds=float(np.median([run[f"{when}_s"] for run in runs[peer]])),
                ess=float(np.median([run[f"{when}_ess"] for run in runs["mjp"]])),
                peers_ess=float(np.median([run[f"{when}_ess"] for run in runs[peer]])),
                steps=float(np.median([run["steps"] for run in runs["mjp"]])),
                peers_steps=float(np.median([run["steps"] for run in runs[peer]])),
                trace_of_mean=float(np.mean([run["stays"] for run in runs["mjp"]])),
                peers_trace_of_mean=float(np.mean([run["stays"] for run in runs[peer]])),
            )


if __name__ == "__main__":
    main()
