"""Edges of the same process, side by side."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from mjp._checks import is_concrete
from mjp.graph import Edges


def merged(edges: Iterable[Edges]) -> list[Edges]:
    """Batches of the same process side by side, so that hand-made graphs stay compact."""
    groups: dict[tuple, list[Edges]] = {}
    for batch in edges:
        numbers = (batch.durations, batch.starts, *batch.covariates.values())
        concrete = all(is_concrete(array) for array in numbers)
        key = (id(batch.process), concrete, tuple(batch.covariates), batch.steps)
        groups.setdefault(key, []).append(batch)
    result = []
    for (_, concrete, names, steps), group in groups.items():
        if len(group) == 1:
            result.append(group[0])
            continue
        join: Any = np.concatenate if concrete else jnp.concatenate
        result.append(
            Edges(
                group[0].process,
                np.concatenate([batch.parents for batch in group]),
                np.concatenate([batch.children for batch in group]),
                join([batch.durations for batch in group]),
                join([batch.starts for batch in group]),
                {name: join([batch.covariates[name] for batch in group]) for name in names},
                steps,
            )
        )
    return result
