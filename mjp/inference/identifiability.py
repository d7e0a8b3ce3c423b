"""Which transition rates the data determine, and which they do not."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mjp.graph import Graph
from mjp.inference.condition import condition
from mjp.processes import MarkovJump


class Identifiability(NamedTuple):
    """What a graph's data alone say about one transition of its jump process.

    Attributes:
        transition: labels (from, to).
        standard_error: of the log-rate, from the information in the data; infinite if there is none.
        identified: whether the standard error is below one, so that the data fix the rate to within a
            factor of about e.
        confused_with: the other transition whose rate the data trade most strongly against this one, if
            their estimates are correlated beyond 0.95; else None.
    """

    transition: tuple[Any, Any]
    standard_error: float
    identified: bool
    confused_with: tuple[Any, Any] | None


def identifiability(graph: Graph) -> list[Identifiability]:
    """Diagnose every transition of a jump process, at the rates that the graph holds.

    The information is the sum over components (subjects) of the outer product of their scores with
    respect to the log-rates; for a graph with fewer components than transitions it is the observed
    information, by differences of the score. Transitions that are poorly determined, or only in
    combination with another one, are named. Priors play no part.

    Args:
        graph: a graph whose edges carry one MarkovJump with known rates.

    Raises:
        TypeError: the graph carries anything else.
    """
    processes = {id(edges.process): edges.process for edges in graph.edges}
    process: Any = next(iter(processes.values()))
    if len(processes) != 1 or not isinstance(process, MarkovJump):
        raise TypeError("identifiability needs a graph whose edges carry one MarkovJump")
    support = process.support()
    if support is None:
        raise TypeError("identifiability: the rates must be known; call it outside of compiled functions")
    source, target = np.nonzero(support)
    place = np.zeros((len(source), process.n_states, process.n_states))
    place[np.arange(len(source)), source, target] = 1.0

    def evidence(log_factors: jax.Array) -> jax.Array:
        scaled = _scaled(process, jnp.exp(jnp.tensordot(log_factors, place, axes=1)))
        return condition(_with_process(graph, scaled)).log_evidence.reshape(-1)

    information = _information(evidence, len(source))
    errors, correlation = _invert(information)
    labels = [(process.states[a], process.states[b]) for a, b in zip(source, target, strict=True)]
    result = []
    for i, label in enumerate(labels):
        others = np.abs(correlation[i]).copy()
        others[i] = 0.0
        rival = int(np.argmax(others)) if len(others) > 1 else i
        confused = labels[rival] if others[rival] > 0.95 else None
        result.append(Identifiability(label, float(errors[i]), bool(errors[i] < 1.0), confused))
    return result


def _information(evidence: Any, n: int) -> np.ndarray:
    """Information about the log-factors at zero, (n, n)."""
    zero = jnp.zeros(n)
    n_components = jax.eval_shape(evidence, zero).shape[0]
    if n_components >= 2 * n:
        pull = jax.jit(lambda weights: jax.vjp(evidence, zero)[1](weights)[0])
        scores = np.stack([np.asarray(pull(row)) for row in np.eye(n_components)])
        return scores.T @ scores
    score = jax.jit(jax.grad(lambda x: evidence(x).sum()))
    step = 1e-3 if zero.dtype == jnp.float32 else 1e-5
    rows = [
        (np.asarray(score(zero + e)) - np.asarray(score(zero - e))) / (2 * step) for e in step * np.eye(n)
    ]
    hessian = np.stack(rows)
    return -(hessian + hessian.T) / 2


def _invert(information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors and correlations; infinite errors along directions without information."""
    values, vectors = np.linalg.eigh(information)
    floor = 1e-8 * max(values.max(), 1e-300)
    covariance = (vectors / np.maximum(values, floor)) @ vectors.T
    errors = np.sqrt(np.diag(covariance))
    blind = (vectors[:, values <= floor] ** 2).sum(axis=1) > 1e-6
    correlation = covariance / np.outer(errors, errors)
    return np.where(blind, np.inf, errors), correlation


def _scaled(process: MarkovJump, factors: jax.Array) -> MarkovJump:
    """The same process with every rate multiplied by its factor."""

    def rates(covariates: Any) -> jax.Array:
        generators = process.generator(covariates) * factors
        return generators if process.breaks else generators[0]

    return MarkovJump(rates, states=process.states, breaks=process.breaks)


def _with_process(graph: Graph, process: MarkovJump) -> Graph:
    copy = object.__new__(type(graph))
    copy.__dict__.update(graph.__dict__)
    copy.edges = [replace(edges, process=process) for edges in graph.edges]
    return copy
