"""Influenza in a boarding school: effective draws per second of the posterior of a stochastic epidemic.

`mjp.inference.PseudoMarginal` through `mjp.fit` against particle marginal Metropolis-Hastings with pypomp's
bootstrap filter, one chain of each, three parameters. The peer is given the covariance of the posterior for
its random walk, and starts at its mean, neither of which is counted; of two numbers of particles, the better
one for the peer counts. The difference of their means is printed, in deviations, to see that they agree.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from common import emit
from epidemic import Estimate, with_pypomp
from numpyro.diagnostics import effective_sample_size

import mjp
from mjp.inference import PseudoMarginal
from mjp.models import influenza
from mjp.models.series import Series

NAMES = ("contact", "recovery", "overdispersion")
PARTICLES, MOVES, EVENTS = 100, 3, 700
PEERS_PARTICLES, WARMUP = (50, 150), 1000
PRIORS = (
    dist.TruncatedNormal(2.0, 1.0, low=0.0),
    dist.TruncatedNormal(0.4, 0.5, low=0.0),
    dist.Exponential(5.0),
)


def model(data: Series) -> None:
    parameters = [numpyro.sample(name, law) for name, law in zip(NAMES, PRIORS, strict=True)]
    mjp.sample("outbreak", influenza.epidemic(*parameters, data), max_events=EVENTS)


def with_pmmh(
    data: Series, start: np.ndarray, root: np.ndarray, moves: int, particles: int
) -> tuple[np.ndarray, float]:
    """Draws (moves, 3) of the log-parameters, and the seconds they took, compilation apart."""
    rng = np.random.default_rng(0)

    def energy(x: np.ndarray, key: jax.Array, estimate: Estimate) -> float:
        prior = sum(float(law.log_prob(jnp.exp(v))) + v for law, v in zip(PRIORS, x, strict=True))
        return -prior - estimate(key, particles, dict(zip(NAMES, np.exp(x).tolist(), strict=True)))

    estimate, keys = with_pypomp(data), iter(jax.random.split(jax.random.key(0), moves + 2))
    here = energy(start, next(keys), estimate)
    found, x, began = [], start, time.perf_counter()
    for _ in range(moves):
        proposed = x + 2.38 / np.sqrt(3) * root @ rng.normal(size=3)
        there = energy(proposed, next(keys), estimate)
        if np.log(rng.random()) < here - there:
            x, here = proposed, there
        found.append(x)
    return np.asarray(found), time.perf_counter() - began


def least_ess(draws: np.ndarray) -> float:
    return min(float(effective_sample_size(column[None])) for column in draws.T)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the draws")
    quick = parser.parse_args().quick
    data, size = influenza.load(), 1000 if quick else 4000
    kernel = PseudoMarginal(model, particles=PARTICLES, moves=MOVES)
    fit = mjp.fit(model, data, engine=kernel, draws=size, warmup=WARMUP, chains=1, progress=False)
    draws = np.log(np.stack([fit.samples[name][0] for name in NAMES], axis=1))
    seconds = fit.seconds["sampling"] * size / (size + WARMUP)
    everything = fit.seconds["sampling"] + fit.seconds["compilation"]
    root = np.linalg.cholesky(np.cov(draws.T))
    runs = [
        with_pmmh(data, draws.mean(axis=0), root, 500 if quick else 2000, particles)
        for particles in PEERS_PARTICLES
    ]
    rates = [least_ess(found) / taken for found, taken in runs]
    (peers, peers_seconds), peers_rate = runs[int(np.argmax(rates))], max(rates)
    rate = least_ess(draws) / seconds
    emit(
        "epidemic_posterior",
        "3 parameters, one chain",
        "least ESS per second after compilation",
        rate,
        unit="1/s",
        peer="PMMH with pypomp's filter",
        peers=peers_rate,
        ratio=rate / peers_rate,
        target=">= 10x",
        with_compilation=least_ess(draws) / everything,
        ess=least_ess(draws),
        peers_ess=least_ess(peers),
        accepted=float(np.mean(fit.statistics["accept_prob"])),
        overflow=int(np.sum(fit.statistics["overflow"])),
        seconds_per_move=seconds / size / MOVES,
        peers_rates=dict(zip(map(str, PEERS_PARTICLES), rates, strict=True)),
        peers_seconds_per_move=peers_seconds / len(peers),
        difference=((peers.mean(axis=0) - draws.mean(axis=0)) / draws.std(axis=0)).round(3).tolist(),
    )


if __name__ == "__main__":
    main()
