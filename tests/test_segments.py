"""Segment sums and gathers against loops over the items; sums agree to 1e-12 relative in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjp.inference.segments import Segments, segment_sum, take


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def cases():
    rng = np.random.default_rng(0)
    skewed = np.concatenate([np.zeros(700, int), rng.integers(1, 90, 50)])
    return {
        "few": (rng.integers(0, 5, 100), 7),
        "many": (rng.integers(0, 600, 1000), 622),
        "skewed": (rng.permutation(skewed), 90),
        "one": (np.zeros(400, int), 1),
        "none": (np.zeros(0, int), 3),
        "identity": (np.arange(6), 6),
        "reversed": (np.arange(6)[::-1], 6),
    }


@pytest.mark.parametrize("shape", [(), (3, 4)])
@pytest.mark.parametrize("name", cases())
def test_sum_and_gather_are_each_others_derivative(name, shape):
    index, n_segments = cases()[name]
    rng = np.random.default_rng(1)
    values, table = rng.normal(size=(len(index), *shape)), rng.normal(size=(n_segments, *shape))
    expected = np.zeros((n_segments, *shape))
    np.add.at(expected, index, values)
    segments = Segments(index, n_segments)
    assert segments.n_segments == n_segments

    @jax.jit
    def sum_and_take(values, table):
        total, pull_sum = jax.vjp(lambda v: segment_sum(v, segments), values)
        rows, pull_take = jax.vjp(lambda t: take(t, segments), table)
        return total, rows, pull_sum(table)[0], pull_take(values)[0]

    total, rows, rows_bar, total_bar = sum_and_take(values, table)
    np.testing.assert_allclose(total, expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(rows, table[index])
    np.testing.assert_array_equal(rows_bar, table[index])
    np.testing.assert_allclose(total_bar, expected, rtol=1e-12, atol=1e-13)


def test_works_under_jit_and_vmap():
    segments = Segments(np.array([2, 0, 2, 2]), 3)
    values = jnp.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(
        jax.jit(jax.vmap(lambda v: segment_sum(v, segments)))(values), [[1, 0, 5], [5, 0, 17]]
    )
