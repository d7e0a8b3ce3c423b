"""The Python blocks of README.md run, in their order and in one namespace."""

import re
from pathlib import Path

import matplotlib
import pytest
from conftest import disable_most_optimizations

README = Path(__file__).resolve().parents[1] / "README.md"
FEW, FEWER = '"draws": 200, "warmup": 200', '"draws": 100, "warmup": 200'
LONG = ("mjp.fit(transplant", "mjp.fit(damage")  # runs that repay all optimisations of their programs
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def no_window(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # the blocks write files
    backend = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield tmp_path
    matplotlib.use(backend)


def test_the_blocks_run_in_order(no_window):
    text = README.read_text(encoding="utf-8")
    assert text.count(FEW) == 1
    text = text.replace(FEW, FEWER)  # fits are tested elsewhere; here it is seen that they run
    blocks = list(BLOCK.finditer(text))
    assert len(blocks) >= 8
    assert all(text.count(name) == 1 for name in LONG)
    namespace = {"__name__": "readme"}
    for block in blocks:
        # blank lines in front, so that a traceback shows the line of README.md
        source = "\n" * text[: block.start(1)].count("\n") + block.group(1)
        with disable_most_optimizations(not any(name in block.group(1) for name in LONG)):
            exec(compile(source, str(README), "exec"), namespace)
    assert (no_window / "report.html").stat().st_size > 100_000


def test_the_files_it_names_exist():
    text = README.read_text(encoding="utf-8")
    root = README.parent
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    named = re.findall(r"`((?:tests|mjp|notebooks|benchmarks|models|inference)/[\w./]*)`", text)
    missing = [name for name in {*linked, *named} if not (root / name).exists()]
    assert not missing, f"README.md names what is not there: {missing}"


def test_the_map_of_the_tests_is_complete():
    listed = set(re.findall(r"^\| `(test_\w+\.py)` \|", README.read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {path.name for path in (README.parent / "tests").glob("test_*.py")}
