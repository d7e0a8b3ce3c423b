"""Keeps XLA from a fusion of its CPU backend that computes wrong numbers.

From jaxlib 0.10.2 on, a matrix-vector product over a batch whose entries are then summed may come out wrong,
or end the process, without a word (jax-ml/jax#39103 and #39257; in every release up to 0.12.0.1). XLA reads
its flags when JAX computes for the first time.
"""

import os
import warnings

from jax._src import xla_bridge  # nothing public says whether JAX has computed yet
from jaxlib.version import __version__

FLAG = "--xla_cpu_experimental_ynn_fusion_type"
_AFFECTED = ((0, 10, 2), (0, 13))  # the first release, and the first of which nothing is known


def disable_faulty_fusion() -> None:
    """Set the flag, unless the user did.

    Warns:
        UserWarning: JAX has computed before, so that it is too late.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    version = tuple(int(part) for part in __version__.split(".")[:3])
    if FLAG in flags or not _AFFECTED[0] <= version < _AFFECTED[1]:
        return
    if xla_bridge.backends_are_initialized():
        warnings.warn(
            f"jaxlib {__version__} computes some sums wrongly on CPU, and mjp can switch this off "
            f"only before JAX computes anything: import mjp first, or set XLA_FLAGS={FLAG}=",
            stacklevel=3,
        )
        return
    os.environ["XLA_FLAGS"] = f"{flags} {FLAG}=".strip()
