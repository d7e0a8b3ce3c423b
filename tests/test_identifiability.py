"""The diagnosis names the transitions that data do not determine."""

import numpy as np
import pytest

import mjp
from mjp.models import cav


def test_standard_errors_of_cav_agree_with_msm():
    visits = cav.load()
    # maximum-likelihood rates and standard errors of the log-rates from R's msm (tight tolerance)
    rates = [0.12787428, 0.04248525, 0.22510108, 0.3425941, 0.04026811, 0.13062402, 0.30645803]
    errors = [0.070559, 0.112119, 0.150695, 0.11554, 0.647029, 0.253251, 0.128531]
    names = [("well", "mild"), ("well", "dead"), ("mild", "well"), ("mild", "severe"), ("mild", "dead")]
    names += [("severe", "mild"), ("severe", "dead")]
    process = mjp.MarkovJump(dict(zip(names, rates, strict=True)), states=["well", "mild", "severe", "dead"])
    found = mjp.identifiability(mjp.panel(process, visits, observe=mjp.Exactly(entry="dead")))
    by_name = {item.transition: item for item in found}
    # outer products of scores estimate the same information with sampling error
    ratio = np.array([by_name[name].standard_error for name in names]) / errors
    assert np.all((ratio > 0.7) & (ratio < 1.4)), ratio
    assert all(item.identified for item in found)


def test_a_transition_without_data_is_named():
    panel = mjp.Panel.from_arrays(
        np.repeat(np.arange(40), 3), np.tile([0.0, 1.0, 2.0], 40), [s for i in range(40) for s in "aab"[:3]]
    )
    process = mjp.MarkovJump({("a", "b"): 0.4, ("b", "c"): 1e-9, ("c", "a"): 0.3})
    found = {
        item.transition: item
        for item in mjp.identifiability(mjp.panel(process, panel, observe=mjp.Exactly()))
    }
    assert found["a", "b"].identified
    assert not found["c", "a"].identified
    assert np.isinf(found["c", "a"].standard_error)


def test_other_processes_are_refused():
    chain = mjp.chain(mjp.MarkovChain(np.eye(2)), [0, 1], initial=0).observe_each(mjp.Exactly(), [0, 0])
    with pytest.raises(TypeError, match="one MarkovJump"):
        mjp.identifiability(chain)
