"""Settings shared by all tests."""

from collections.abc import Iterator

import jax
import pytest

jax.config.update("jax_enable_x64", True)

# Files that take longest; a worker that starts one of them last leaves the other idle.
LONGEST = (
    "test_notebooks",
    "test_readme",
    "test_report",
    "test_guided_networks",
    "test_models",
    "test_fit",
    "test_gaussian_laws",
    "test_references",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, the others in their order."""
    rank = {name: i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile without costly optimisations where problems are small and nearly all time is compilation."""
    if request.node.get_closest_marker("slow") or getattr(request.module, "FULL_COMPILATION", False):
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
