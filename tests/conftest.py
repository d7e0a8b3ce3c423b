"""Settings shared by all tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Most of the time goes into compilation, often of a program that another test, worker, process or earlier run
# has compiled before. JAX reads these variables when it is imported, here and in processes that tests start.
PROGRAMS = Path(__file__).resolve().parents[1] / ".pytest_cache" / "programs"
MOST = 2 * 10**9  # bytes that are kept between runs
MOST_MAPS = 25_000
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    if sum(entry.stat().st_size for entry in PROGRAMS.glob("*")) > MOST:
        shutil.rmtree(PROGRAMS)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(PROGRAMS)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"

import jax  # noqa: E402

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


@contextmanager
def disable_most_optimizations(value: bool) -> Iterator[None]:
    """Set JAX's option of this name, in all threads."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", value)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compile without costly optimisations where problems are small and nearly all time is compilation."""
    if request.node.get_closest_marker("slow") or getattr(request.module, "FULL_COMPILATION", False):
        yield
        return
    with disable_most_optimizations(True):
        yield


@pytest.fixture(scope="module", autouse=True)
def room_for_programs() -> Iterator[None]:
    """Forget compiled programs before a process has as many pieces of memory as Linux allows, 65530.

    Every program maps some of them; beyond the limit, XLA ends the process.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def full_compilation(request: pytest.FixtureRequest, quick_compilation: None) -> Iterator[None]:
    """Optimise what slow tests run, which takes far longer than its compilation."""
    if not request.node.get_closest_marker("slow"):
        yield
        return
    with disable_most_optimizations(False):
        yield
