"""Categorical hidden Markov models in float32: log-likelihood, and its gradient, against dynamax.

Both sides are functions of the same logits (softmax included), compiled, and called in turns. The error of
the log-likelihood is against NumPy in float64. hmmlearn, which has no gradient, is timed on the value.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from common import compiled, emit, interleave, median_ms, median_ratio
from dynamax.hidden_markov_model.inference import hmm_filter
from hmmlearn.hmm import CategoricalHMM

import mjp

SYMBOLS = 8
TARGETS = {2: 2.0, 10: 2.0, 50: 1.4, 200: 2.0}  # value and gradient, times faster than dynamax

type Logits = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulate(
    n_states: int, length: int, series: int | None = None, seed: int = 0
) -> tuple[np.ndarray, Logits]:
    """Observed symbols (T,) or (series, T), and logits of the first state, the steps and the symbols.

    The states stay where they are with probability 0.7 and more; the logits are a little away from the truth.
    """
    rng = np.random.default_rng(seed)
    transition = 0.7 * np.eye(n_states) + 0.3 * rng.dirichlet(np.ones(n_states), n_states)
    emission = rng.dirichlet(0.5 * np.ones(SYMBOLS), n_states)
    to, out = transition.cumsum(1), emission.cumsum(1)
    n = series or 1
    state, observed = rng.integers(n_states, size=n), np.zeros((n, length), np.int32)
    for t in range(length):
        uniform = rng.random((2, n, 1))
        observed[:, t] = np.minimum((out[state] < uniform[0]).sum(1), SYMBOLS - 1)
        state = np.minimum((to[state] < uniform[1]).sum(1), n_states - 1)
    logits = (
        0.1 * rng.normal(size=n_states),
        np.log(transition) + 0.1 * rng.normal(size=transition.shape),
        np.log(emission + 1e-3) + 0.1 * rng.normal(size=emission.shape),
    )
    first, steps, symbols = (values.astype(np.float32) for values in logits)
    return (observed[0] if series is None else observed), (first, steps, symbols)


def probabilities(logits: tuple) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first law, the transition and the emission matrix."""
    first, steps, symbols = (jax.nn.softmax(values, axis=-1) for values in logits)
    return first, steps, symbols


def with_mjp(logits: tuple, observed: np.ndarray) -> jax.Array:
    """Log-likelihood of (T,) or (series, T) symbols."""
    first, steps, symbols = probabilities(logits)
    graph = mjp.chain(
        mjp.MarkovChain(steps), np.arange(observed.shape[-1]), initial=dist.Categorical(first)
    ).observe_each(lambda x: dist.Categorical(symbols[x]), observed)
    return mjp.condition(graph).log_evidence.sum()


def with_dynamax(logits: tuple, observed: np.ndarray) -> jax.Array:
    """As `with_mjp`; several series by vmap."""
    first, steps, symbols = probabilities(logits)
    by_symbol = jnp.log(symbols).T
    one = lambda y: hmm_filter(first, steps, by_symbol[y]).marginal_loglik
    return one(observed) if observed.ndim == 1 else jax.vmap(one)(observed).sum()


def in_float64(logits: Logits, observed: np.ndarray) -> float:
    """The log-likelihood in float64, (series, T) symbols filtered together."""
    exponentials = [np.exp(values.astype(float)) for values in logits]
    first, steps, symbols = (values / values.sum(-1, keepdims=True) for values in exponentials)
    columns = np.atleast_2d(observed).T
    law, total = first[None], 0.0
    for t, column in enumerate(columns):
        law = (law if t == 0 else law @ steps) * symbols.T[column]
        scale = law.sum(1, keepdims=True)
        law, total = law / scale, total + np.log(scale).sum()
    return float(total)


def with_hmmlearn(logits: Logits, observed: np.ndarray) -> CategoricalHMM:
    """A model of hmmlearn with these parameters, whose `score` is the log-likelihood."""
    exponentials = [np.exp(values.astype(float)) for values in logits]
    first, steps, symbols = (values / values.sum(-1, keepdims=True) for values in exponentials)
    model = CategoricalHMM(n_components=len(first), implementation="scaling")
    model.startprob_, model.transmat_, model.emissionprob_ = first, steps, symbols
    model.n_features = SYMBOLS
    return model


def compare(case: str, logits: Logits, observed: np.ndarray, target: float, seconds: float) -> None:
    """Print the figures of one model and data set; `target` is for value and gradient."""
    programs, building = {}, {}
    on_device = tuple(jnp.asarray(values) for values in logits)
    for name, function in (("mjp", with_mjp), ("dynamax", with_dynamax)):
        data = observed if name == "mjp" else jnp.asarray(observed)
        value = lambda p, function=function, data=data: function(p, data)
        for what, built in (("value", value), ("gradient", jax.value_and_grad(value))):
            program, trace, compilation = compiled(built, on_device)
            programs[what, name] = lambda program=program: program(on_device)
            building[what, name] = trace + compilation
    truth = in_float64(logits, observed)
    errors = {name: float(programs["value", name]()) - truth for name in ("mjp", "dynamax")}

    for what in ("value", "gradient"):
        times = interleave({name: programs[what, name] for name in ("mjp", "dynamax")}, seconds)
        emit(
            "hmm",
            case,
            "value" if what == "value" else "value + gradient",
            median_ms(times["mjp"]),
            peer="dynamax",
            peers=median_ms(times["dynamax"]),
            ratio=median_ratio(times["dynamax"], times["mjp"]),
            target="" if what == "value" else f">= {target}x",
            rounds=len(times["mjp"]),
            build_s=building[what, "mjp"],
            peers_build_s=building[what, "dynamax"],
        )
    if observed.shape[-1] <= 10_000 and len(logits[0]) <= 50:
        model, column = with_hmmlearn(logits, observed), observed.reshape(-1, 1)
        lengths = None if observed.ndim == 1 else [observed.shape[1]] * len(observed)
        calls = {"mjp": programs["value", "mjp"], "hmmlearn": lambda: model.score(column, lengths)}
        times = interleave(calls, seconds / 2)
        emit(
            "hmm",
            case,
            "value",
            median_ms(times["mjp"]),
            peer="hmmlearn",
            peers=median_ms(times["hmmlearn"]),
            ratio=median_ratio(times["hmmlearn"], times["mjp"]),
        )
    emit(
        "hmm",
        case,
        "error of the value",
        errors["mjp"],
        unit="nats",
        peer="dynamax",
        peers=errors["dynamax"],
        target="within 0.05",
        log_likelihood=truth,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer sizes, shorter timings")
    parser.add_argument("--states", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--lengths", type=float, nargs="+", default=[1e3, 1e4, 1e5])
    options = parser.parse_args()
    lengths = [1e3] if options.quick else options.lengths
    seconds = 1.0 if options.quick else 5.0
    for length in map(int, lengths):
        for n_states in options.states:
            observed, logits = simulate(n_states, length)
            compare(f"K={n_states} T={length}", logits, observed, TARGETS.get(n_states, 1.0), seconds)
    observed, logits = simulate(4, 50, series=1000)
    compare("1000 series of T=50, K=4", logits, observed, 1.4, seconds)


if __name__ == "__main__":
    main()
