"""Value and gradient of a linear-Gaussian log-likelihood against dynamax: d = 4, two observed coordinates."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from common import compiled, emit, interleave, median_ms, median_ratio

import mjp

D, K = 4, 2


def data(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transition matrix, observation matrix and a simulated series."""
    rng = np.random.default_rng(0)
    transition = 0.95 * np.linalg.qr(rng.normal(size=(D, D)))[0]
    look = rng.normal(size=(K, D))
    x, ys = rng.normal(size=D), []
    for _ in range(n):
        x = transition @ x + 0.3 * rng.normal(size=D)
        ys.append(look @ x + 0.5 * rng.normal(size=K))
    return transition, look, np.asarray(ys)


def ours(look: jax.Array, y: jax.Array):
    def value(parameters):
        matrix, q, r = parameters
        covariance, noise = jnp.diag(jnp.exp(2 * q)), jnp.diag(jnp.exp(2 * r))
        first = dist.MultivariateNormal(jnp.zeros(D), matrix @ matrix.T + covariance)
        graph = mjp.chain(mjp.LinearGaussian(matrix, None, covariance), np.arange(len(y)), initial=first)
        graph.observe_each(mjp.LinearGaussianObservation(look, noise), y)
        return mjp.condition(graph).log_evidence

    return value


def dynamax(look: jax.Array, y: jax.Array):
    from dynamax.linear_gaussian_ssm.inference import lgssm_filter, make_lgssm_params

    def value(parameters):
        matrix, q, r = parameters
        covariance, noise = jnp.diag(jnp.exp(2 * q)), jnp.diag(jnp.exp(2 * r))
        first = matrix @ matrix.T + covariance
        model = make_lgssm_params(jnp.zeros(D), first, matrix, covariance, look, noise)
        return lgssm_filter(model, y).marginal_loglik

    return value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    for n in (200,) if quick else (1000, 10_000):
        transition, look, y = data(n)
        for dtype in ("float32", "float64"):
            jax.config.update("jax_enable_x64", dtype == "float64")
            arrays = [jnp.asarray(a, dtype) for a in (look, y)]
            parameters = (
                jnp.asarray(0.98 * transition, dtype),
                jnp.full(D, -1.1, dtype),
                jnp.full(K, -0.6, dtype),
            )
            functions = {"mjp": ours(*arrays), "dynamax": dynamax(*arrays)}
            for figure, transform in (("value", lambda f: f), ("value and gradient", jax.value_and_grad)):
                programs = {name: compiled(transform(f), parameters) for name, f in functions.items()}
                calls = {name: lambda p=p, at=parameters: p[0](at) for name, p in programs.items()}
                results = {name: jax.tree.leaves(call())[0] for name, call in calls.items()}
                times = interleave(calls, 2.0 if quick else 8.0)
                emit(
                    "linear_gaussian",
                    f"T={n}, {dtype}",
                    figure,
                    median_ms(times["mjp"]),
                    peer="dynamax",
                    peers=median_ms(times["dynamax"]),
                    ratio=median_ratio(times["dynamax"], times["mjp"]),
                    target="1.25 at T=10^4" if figure != "value" else "",
                    compile_s=programs["mjp"][2],
                    difference=float(results["mjp"] - results["dynamax"]),
                )


if __name__ == "__main__":
    main()
