"""Influenza in a boarding school: variance of the log-evidence of a stochastic epidemic, on the same budget.

`mjp.smc`, guided, guided in resampling only, and not guided, against pypomp's bootstrap filter, at parameters
near the posterior mode. All move their particles by the direct method, so that they estimate the same number.
Particles are chosen for equal times, those of a thousand particles of the package `particles`; as these are
met only roughly, the ratio is that of variance times seconds. The filter of `particles` needs an environment
of its own: `python benchmarks/peers/epidemic_particles.py` prints its figure.
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from common import emit
from jax import Array, lax

import mjp
from mjp.models import influenza
from mjp.models.series import Series

CONTACT, RECOVERY, OVERDISPERSION = 1.8, 0.5, 0.1
BUDGET, FEWEST = 0.12, 20  # seconds, particles

type Estimate = Callable[..., float]  # of a key, a number of particles, and perhaps parameters


def with_mjp(data: Series, guided: bool | str) -> Estimate:
    graph = influenza.epidemic(CONTACT, RECOVERY, OVERDISPERSION, data)
    options = {}
    if guided is True:
        options["max_events"] = 2 * mjp.condition(graph).clocks  # type: ignore[attr-defined]
    smc = lambda key, particles: mjp.smc(graph, key, particles, guided=guided, **options)
    return lambda key, particles: float(smc(key, particles).log_evidence[0])


def with_pypomp(data: Series) -> Estimate:
    import pandas
    import pypomp

    def start(theta_: dict, key: Array, covars: Array | None, t0: float) -> dict:
        return {"S": influenza.BOYS - 1.0, "I": 1.0}

    def day(X_: dict, theta_: dict, key: Array, covars: Array | None, t: float, dt: float) -> dict:
        def event(carry: tuple) -> tuple:
            time, s, i, key = carry
            key, wait, which = jax.random.split(key, 3)
            infection, recovery = theta_["contact"] / influenza.BOYS * s * i, theta_["recovery"] * i
            total = infection + recovery
            time = time + jax.random.exponential(wait) / total
            infects = jax.random.uniform(which) * total < infection
            happens = time < dt
            s = jnp.where(happens & infects, s - 1, s)
            i = jnp.where(happens, jnp.where(infects, i + 1, i - 1), i)
            return time, s, i, key

        going = lambda carry: (carry[0] < dt) & (carry[2] > 0)
        _, s, i, _ = lax.while_loop(going, event, (jnp.zeros(()), X_["S"], X_["I"], key))
        return {"S": s, "I": i}

    def in_bed(Y_: dict, X_: dict, theta_: dict, covars: Array | None, t: float) -> Array:
        size = 1.0 / (theta_["overdispersion"] + influenza.LEAST)
        mean, y, log_gamma = X_["I"] + 0.1, Y_["y"], jax.lax.lgamma
        constant = log_gamma(y + size) - log_gamma(jnp.asarray(size)) - log_gamma(y + 1.0)
        return constant + size * jnp.log(size / (size + mean)) + y * jnp.log(mean / (size + mean))

    theta = {"contact": CONTACT, "recovery": RECOVERY, "overdispersion": OVERDISPERSION}
    model = pypomp.Pomp(
        ys=pandas.DataFrame({"y": data.values}, index=pandas.Index(data.times, name="time")),
        theta=pypomp.PompParameters(theta),
        statenames=["S", "I"],
        t0=0.0,
        rinit=start,
        rproc=day,
        dmeas=in_bed,
        nstep=1,
    )

    def estimate(key: Array, particles: int, parameters: dict[str, float] | None = None) -> float:
        chosen = None if parameters is None else pypomp.PompParameters(parameters)
        model.pfilter(J=particles, key=key, theta=chosen, thresh=0.5 * particles)
        found = float(model.results()["logLik"].iloc[-1])
        model.results_history.clear()
        return found

    return estimate


def measured(estimate: Estimate, particles: int, repeats: int) -> tuple[np.ndarray, float]:
    """Estimates, and the median of the seconds that one takes."""
    keys = jax.random.split(jax.random.key(particles), repeats + 1)
    estimate(keys[-1], particles)
    values, seconds = [], []
    for key in keys[:-1]:
        began = time.perf_counter()
        values.append(estimate(key, particles))
        seconds.append(time.perf_counter() - began)
    return np.asarray(values), float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    repeats = 12 if parser.parse_args().quick else 240
    data = influenza.load()
    estimates = {
        "guided": with_mjp(data, True),
        "guided in resampling": with_mjp(data, "resampling"),
        "not guided": with_mjp(data, False),
        "pypomp": with_pypomp(data),
    }
    found = {}
    for name, estimate in estimates.items():
        # two sizes tell what a call costs from what a particle does
        small, large = (measured(estimate, n, 5)[1] for n in (200, 2000))
        each = max((large - small) / 1800, 1e-7)
        particles = max(FEWEST, int(2000 + (BUDGET - large) / each))
        found[name] = (*measured(estimate, particles, repeats), particles)
    work = {name: float(np.var(values) * seconds) for name, (values, seconds, _) in found.items()}
    for name in [name for name in found if name != "pypomp"]:
        emit(
            "epidemic",
            f"14 counts of 763 boys, {name}",
            "variance of the log-evidence x seconds",
            work[name],
            unit="s",
            peer="pypomp",
            peers=work["pypomp"],
            ratio=work["pypomp"] / work[name],
            target=">= 10x",
            variances=[float(np.var(found[one][0])) for one in (name, "pypomp")],
            means=[float(np.mean(found[one][0])) for one in (name, "pypomp")],
            seconds=[found[one][1] for one in (name, "pypomp")],
            particles=[found[one][2] for one in (name, "pypomp")],
            repeats=repeats,
        )


if __name__ == "__main__":
    main()
