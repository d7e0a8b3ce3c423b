"""The epidemic of `epidemic.py` with the bootstrap filter of `particles`.

That package needs NumPy below 2, and so an environment of its own without mjp:
`pip install "particles==0.4" "numpy<2"`. Counts are read from the table in `mjp/models/data`.
"""

import csv
import json
import time
from pathlib import Path

import numpy as np
import particles
from particles import distributions, state_space_models
from scipy.stats import nbinom

BOYS, CONTACT, RECOVERY, OVERDISPERSION = 763, 1.8, 0.5, 0.1
TABLE = Path(__file__).parents[2] / "mjp/models/data/influenza_boarding_school_1978.csv"
PARTICLES, REPEATS = 1000, 240
RANDOM = np.random.default_rng(0)


class Day(distributions.ProbDist):
    """Susceptible and infected boys (N, 2) a day later, by the direct method for all particles at once."""

    dim = 2

    def __init__(self, before: np.ndarray):
        self.before = before

    def rvs(self, size: int | None = None) -> np.ndarray:
        x = np.array(self.before, float)
        passed, going = np.zeros(len(x)), np.flatnonzero(x[:, 1] > 0)
        while len(going):
            s, i = x[going].T
            infection, recovery = CONTACT / BOYS * s * i, RECOVERY * i
            total = infection + recovery
            passed[going] += RANDOM.exponential(size=len(going)) / total
            happens = passed[going] < 1.0
            infects = RANDOM.random(len(going)) * total < infection
            x[going, 0] -= happens & infects
            x[going, 1] += np.where(happens, np.where(infects, 1, -1), 0)
            going = going[happens & (x[going, 1] > 0)]
        return x


class InBed(distributions.ProbDist):
    """Counts given the infected boys."""

    def __init__(self, infected: np.ndarray):
        self.mean = infected + 0.1

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        n = 1.0 / OVERDISPERSION
        return nbinom.logpmf(x, n, n / (n + self.mean))


class Start(distributions.ProbDist):
    """One boy is infected a day before the first count."""

    dim = 2

    def rvs(self, size: int | None = None) -> np.ndarray:
        return Day(np.tile([BOYS - 1.0, 1.0], (size or 1, 1))).rvs()


class Epidemic(state_space_models.StateSpaceModel):
    def PX0(self) -> Start:
        return Start()

    def PX(self, t: int, xp: np.ndarray) -> Day:
        return Day(xp)

    def PY(self, t: int, xp: np.ndarray, x: np.ndarray) -> InBed:
        return InBed(x[:, 1])


def main() -> None:
    with TABLE.open() as file:
        data = np.array([float(row["in_bed"]) for row in csv.DictReader(file)])
    values, seconds = [], []
    for seed in range(REPEATS):
        np.random.seed(seed)  # noqa: NPY002 (what the package draws from)
        model = state_space_models.Bootstrap(ssm=Epidemic(), data=data)
        run = particles.SMC(fk=model, N=PARTICLES, resampling="systematic", ESSrmin=0.5)
        began = time.perf_counter()
        run.run()
        seconds.append(time.perf_counter() - began)
        values.append(run.logLt)
    found = {
        "variance": float(np.var(values)),
        "mean": float(np.mean(values)),
        "seconds": float(np.median(seconds)),
        "variance x seconds": float(np.var(values) * np.median(seconds)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
