"""Tables of parameters that are indexed by a covariate and have too few rows, which JAX would clamp."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import mjp

TIMES = np.arange(4)
TWO = dist.Categorical(jnp.array([0.5, 0.5]))


def states(rows):
    rate = jnp.ones(rows)
    return mjp.MarkovJump(lambda c: {("a", "b"): rate[c["series"]], ("b", "a"): 1.0})


def steps(rows):
    leave = jnp.full(rows, 0.3)
    return mjp.MarkovChain(lambda c: jnp.eye(2) + leave[c["step"]] * jnp.array([[-1.0, 1.0], [1.0, -1.0]]))


def labelled(process):
    chain = mjp.chain(process, TIMES, initial=TWO, series=3)
    return chain.observe_each(lambda x: dist.Normal(jnp.array([0.0, 1.0])[x], 1.0), np.zeros((3, 4)))


def diffusing(rows):
    pull = jnp.ones(rows)
    process = mjp.Diffusion(lambda t, x, c: -pull[c["series"]] * jnp.sin(x), 0.3)
    chain = mjp.chain(process, TIMES, initial=0.0, series=3, steps=2)
    return chain.observe_each(lambda x: dist.Normal(x[0], 0.1), np.zeros((3, 4)))


def wearing(rows):
    rate = jnp.ones(rows)
    process = mjp.GammaProcess(2.0, lambda t, c: rate[c["series"]])
    chain = mjp.chain(process, TIMES, initial=0.0, series=3)
    return chain.observe_each(lambda x: dist.Normal(x[0], 0.5), 2.0 * TIMES * np.ones((3, 1)))


def patients(rows):
    rate = jnp.ones(rows)
    panel = mjp.Panel.from_frame(
        pd.DataFrame({"subject": [1, 1, 2, 2, 3, 3], "time": [0.0, 1.0] * 3, "state": list("abaaab")}),
        subject="subject",
        time="time",
        state="state",
    )
    return mjp.panel(mjp.MarkovJump(lambda c: {("a", "b"): rate[c["subject"]]}), panel, observe=mjp.Exactly())


def measured(rows):
    error = jnp.ones(rows)
    process = mjp.Diffusion(lambda t, x: -x, 0.3)
    chain = mjp.chain(process, TIMES, initial=0.0, series=3, steps=2)
    return chain.observe_each(lambda x, c: dist.Normal(x[0], error[c["series"]]), np.zeros((3, 4)))


CASES = {
    "states": (lambda rows: labelled(states(rows)), "MarkovJump", "series"),
    "steps": (lambda rows: labelled(steps(rows)), "MarkovChain", "step"),
    "diffusion": (diffusing, "Diffusion", "series"),
    "gamma": (wearing, "GammaProcess", "series"),
    "panel": (patients, "MarkovJump", "subject"),
    "likelihood": (measured, "likelihood", "series"),
}


@pytest.mark.parametrize(("build", "what", "covariate"), CASES.values(), ids=CASES)
def test_too_few_rows_are_refused(build, what, covariate):
    words = f"{what}: it looks up the covariate {covariate!r} in a table of 2 rows, but its values go up to 2"
    with pytest.raises(ValueError, match=re.escape(words)):
        mjp.condition(build(2))
    assert np.all(np.isfinite(mjp.condition(build(3)).log_evidence))


def test_parameters_that_are_not_known_yet():
    """As in a NumPyro model, where a table of the wrong length is a likely slip."""

    def evidence(rate):
        process = mjp.MarkovJump(lambda c: {("a", "b"): rate[c["series"]], ("b", "a"): 1.0})
        return mjp.condition(labelled(process)).log_evidence

    with pytest.raises(ValueError, match="in a table of 2 rows"):
        jax.jit(evidence)(jnp.ones(2))
    assert jax.jit(evidence)(jnp.ones(3)).shape == (3,)


def test_what_is_computed_from_a_covariate_is_left_alone():
    """Days of the week, and the last of a few levels from some step on."""
    by_day, levels = jnp.linspace(0.1, 0.7, 2), jnp.array([0.2, 0.4])
    process = mjp.MarkovChain(
        lambda c: (
            jnp.eye(2)
            + by_day[c["step"] % 2]
            * levels[jnp.minimum(c["step"], 1)]
            * jnp.array([[-1.0, 1.0], [1.0, -1.0]])
        )
    )
    assert np.all(np.isfinite(mjp.condition(labelled(process)).log_evidence))
