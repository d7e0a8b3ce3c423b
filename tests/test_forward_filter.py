"""The forward filter against autodiff of a plain log-space recursion, to 1e-10 in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjp.inference.forward_filter import forward_filter
from mjp.inference.potentials.categorical import Categorical


@pytest.fixture
def _float64():
    with jax.enable_x64(True):
        yield


def plain(initial, matrices, index, values, log_scale):
    """Normalise at every step and let JAX differentiate."""
    if index is None:
        index = np.zeros((values.shape[0] - 1, values.shape[1]), int)
    law, increments = initial, []
    for t in range(values.shape[0]):
        if t:
            law = jnp.einsum("si,sij->sj", law, matrices[index[t - 1]])
        joint = law * values[t]
        total = joint.sum(-1)
        increments.append(jnp.log(total) + log_scale[t])
        law = joint / total[:, None]
    return jnp.stack(increments)


def problem(n_paths, n_edges, n_matrices, n_states, zeros=False):
    """Ragged paths when there are several matrices, the last of which is then the identity."""
    rng = np.random.default_rng(n_states + 10 * n_paths)
    matrices = rng.dirichlet(np.ones(n_states), (n_matrices, n_states))
    values = rng.uniform(0.1, 1, (n_edges + 1, n_paths, n_states))
    initial = rng.dirichlet(np.ones(n_states), n_paths)
    if zeros:
        matrices[:, 0, -1] = 0
        values[rng.random(values.shape) < 0.3] = 0
        values[..., 1] = 0.5
        initial[:, 0] = 0
    index = None
    if n_matrices > 1:
        matrices[-1] = np.eye(n_states)
        index = rng.integers(0, n_matrices - 1, (n_edges, n_paths))
        for path, end in enumerate(rng.integers(1, n_edges + 1, n_paths)):
            index[end:, path] = n_matrices - 1
            values[end + 1 :, path] = 1
    log_scale = rng.normal(size=values.shape[:2])
    return index, tuple(map(jnp.asarray, (initial, matrices, values, log_scale)))


@pytest.mark.usefixtures("_float64")
@pytest.mark.parametrize(
    ("n_paths", "n_matrices", "n_states", "zeros"),
    # numbers of states 2, 10 and 30 take the three forms of the product with a single shared matrix
    [
        (1, 1, 2, False),
        (1, 1, 10, True),
        (1, 1, 30, True),
        (3, 1, 10, False),
        (3, 1, 30, True),
        (1, 4, 3, True),
        (5, 4, 3, True),
    ],
)
def test_values_and_gradients(n_paths, n_matrices, n_states, zeros):
    index, arguments = problem(n_paths, 4, n_matrices, n_states, zeros)

    def filtered(initial, matrices, values, log_scale):
        return forward_filter(initial, matrices, index, Categorical(values, log_scale))

    @jax.jit
    def both(cotangent, *arguments):
        expected, pull_expected = jax.vjp(lambda i, m, v, s: plain(i, m, index, v, s), *arguments)
        found, pull = jax.vjp(filtered, *arguments)
        return expected, pull_expected(cotangent), found, pull(cotangent)

    cotangent = np.random.default_rng(1).normal(size=arguments[-1].shape)
    expected, expected_bars, found, bars = both(cotangent, *arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
    for one, (bar, reference) in enumerate(zip(bars, expected_bars, strict=True)):
        if one == 1 and index is not None:  # the padding takes no derivative
            bar, reference = bar[:-1], reference[:-1]
        np.testing.assert_allclose(bar, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_paths", [1, 3])
def test_impossible_observations_are_minus_infinity_without_nan(n_paths):
    _, (initial, matrices, values, log_scale) = problem(n_paths, 6, 1, 3)
    values = values.at[2, 0].set(0)

    def total(matrices, values):
        increments = forward_filter(initial, matrices, None, Categorical(values, log_scale))
        return increments.sum(), increments

    (_, increments), bars = jax.value_and_grad(total, (0, 1), has_aux=True)(matrices, values)
    assert np.all(np.isneginf(increments[2:, 0]))
    assert np.all(np.isfinite(increments[:2, 0]))
    assert np.all(np.isfinite(increments[:, 1:]))
    assert all(np.all(np.isfinite(bar)) for bar in bars)


def test_single_node():
    nodes = Categorical(jnp.array([[[0.2, 0.4]]]), jnp.array([[1.5]]))
    found = forward_filter(jnp.array([[0.5, 0.5]]), jnp.eye(2)[None], None, nodes)
    np.testing.assert_allclose(found, [[np.log(0.3) + 1.5]], rtol=1e-6)


def test_float32_keeps_its_accuracy_over_long_series():
    """100 000 steps of float32 within 0.05 of the float64 log-likelihood, of the order -1e5."""
    rng = np.random.default_rng(0)
    matrices, values = rng.dirichlet(np.ones(4), (1, 4)), rng.uniform(0.01, 1, (100_000, 1, 4))

    def loglik(dtype):
        nodes = Categorical(jnp.asarray(values, dtype), jnp.zeros((100_000, 1), dtype))
        initial = jnp.full((1, 4), 0.25, dtype)
        return float(jnp.sum(forward_filter(initial, jnp.asarray(matrices, dtype), None, nodes)))

    single = loglik(jnp.float32)
    with jax.enable_x64(True):
        double = loglik(jnp.float64)
    assert abs(double) > 1e4
    assert abs(single - double) < 0.05
