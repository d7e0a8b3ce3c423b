"""XLA computes sums of products rightly once mjp is imported."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import mjp
from mjp._xla_flags import FLAG

FULL_COMPILATION = True


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 7, 12])
def test_sums_of_products(dtype, n):
    """A program that XLA gets wrong without the flag."""
    rng = np.random.default_rng(0)
    matrix, vector = rng.normal(size=(n, n)).astype(dtype), rng.normal(size=n).astype(dtype)

    @jax.jit
    def form(matrix, vector):
        many = jnp.broadcast_to(vector[:, None], (n, 1000))
        return jnp.sum((matrix @ many) * many, axis=0)

    np.testing.assert_allclose(form(matrix, vector), np.full(1000, vector @ matrix @ vector), rtol=1e-4)


def test_look_ahead_of_many_species():
    """Seven species: products of matrices are XLA's; the estimates of both filters agree."""
    counters = [(f"E -> I + C{week}", 1.0 / 3.0) for week in range(3)]
    network = mjp.ReactionNetwork([("S + I -> E + I", 0.7 / 300), *counters, ("I -> R", 0.25)])
    first = {"S": 290, "I": 10, "E": 0, "R": 0, "C0": 0, "C1": 0, "C2": 0}
    chain = mjp.chain(network, np.arange(0.0, 22.0, 7.0), initial=first)
    for week, cases in enumerate([11, 32, 68]):
        likelihood = lambda x, w=week: dist.NegativeBinomial2(0.5 * x[f"C{w}"] + 0.1, 10.0)
        chain.observe(week + 1, likelihood, cases)
    free = mjp.smc(chain, jax.random.key(0), 2000, guided=False).log_evidence
    ahead = mjp.smc(chain, jax.random.key(1), 2000, guided="resampling").log_evidence
    np.testing.assert_allclose(ahead, free, atol=0.5)


def imported(before, **variables):
    code = f"import os\n{before}\nimport mjp\nprint(os.environ.get('XLA_FLAGS'))"
    given = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**given, **variables}
    )


def test_flags_of_the_user_are_kept():
    assert imported("", XLA_FLAGS="--xla_a=1").stdout.strip() == f"--xla_a=1 {FLAG}="
    assert imported("", XLA_FLAGS=f"{FLAG}=+dot").stdout.strip() == f"{FLAG}=+dot"


def test_too_late_is_said():
    assert "import mjp first" in imported("import jax.numpy as jnp; jnp.ones(2) + 1").stderr
