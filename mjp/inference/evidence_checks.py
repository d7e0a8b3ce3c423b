"""What is said when the evidence of a guide is not a number that can be used."""

from collections.abc import Callable

import numpy as np
from jax import Array

from mjp._checks import is_concrete


def check_finite_evidence(evidence: Array, cause: Callable[[], str], what: str = "the evidence") -> None:
    """Refuse a known log-evidence, one number or one per series, that is not finite.

    Args:
        cause: words for why it may be; called where they are needed.
        what: was computed.

    Raises:
        ValueError: with the first series whose evidence is not finite.
    """
    if not is_concrete(evidence):
        return
    flat = np.asarray(evidence).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(flat))
    if len(bad):
        where = f" of series {int(bad[0])}" if evidence.ndim else ""
        raise ValueError(f"{what}{where} is not finite (log-evidence {float(flat[bad[0]])}); {cause()}")
