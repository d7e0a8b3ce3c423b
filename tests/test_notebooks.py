"""The notebooks run from top to bottom, and are committed with the outputs of such a run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FEW_DRAWS = "DRAWS = 40\nWARMUP = 60\nCHAINS = 2"


def pictures(notebook) -> int:
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return sum("image/png" in out.get("data", {}) for out in outputs)


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


def each(paths):
    """The first notebook among the fast tests; the others are compiled for a minute each."""
    marks = lambda path: [] if path == NOTEBOOKS[0] else [pytest.mark.slow]
    return [pytest.param(path, id=path.stem, marks=marks(path)) for path in paths]


@pytest.mark.parametrize("path", each(NOTEBOOKS))
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, as_version=4)
    expected = pictures(notebook)
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    parameters[0].source = FEW_DRAWS
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises when a cell does
    assert pictures(notebook) == expected > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_its_outputs(path):
    assert path.stat().st_size < 1_000_000
    notebook = nbformat.read(path, as_version=4)
    assert "You will learn" in notebook.cells[0].source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert pictures(notebook) >= 4
    for out in (out for cell in code for out in cell.outputs):
        assert out.output_type != "error"
        assert out.get("name") != "stderr", out
    assert not re.search(r"(?<![\w.])/(work|root|home|tmp|Users)/", path.read_text(encoding="utf-8"))
