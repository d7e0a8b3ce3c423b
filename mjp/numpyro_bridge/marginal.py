"""What stands for a path that has no value."""

from typing import Any


class MarginalPath:
    """Stands for a path that inference has marginalised; it has no value while parameters are inferred."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        raise RuntimeError(
            f"the path {self._name!r} is marginalised while parameters are inferred, so {attribute!r} has no "
            "value here; read it from Predictive, or from fit.paths"
        )

    def __getitem__(self, node: Any) -> Any:
        return self.__getattr__(f"[{node!r}]")
