"""Imports inside mjp point one way, and the slow packages are imported only when they are used."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mjp"

# Bottom to top. A module may import its own layer and the layers listed before it. The longest prefix
# decides, so a sub-package can be given a layer of its own.
LAYERS: list[tuple[str, tuple[str, ...]]] = [
    (
        "checks",
        (
            "mjp._checks",
            "mjp._by_content",
            "mjp._signatures",
            "mjp._small_matrices",
            "mjp._table_checks",
            "mjp._xla_flags",
        ),
    ),
    ("processes", ("mjp.processes",)),
    (
        "graph",
        (
            "mjp.graph",
            "mjp.shapes",
            "mjp.starts",
            "mjp.trajectory",
            "mjp.state_trajectory",
            "mjp.state_spaces",
            "mjp.vector_trajectory",
            "mjp.count_trajectory",
            "mjp.agent_jump_trajectory",
            "mjp.agent_trajectory",
            "mjp.switching_trajectory",
            "mjp.mixed_trajectory",
            "mjp.observations",
            "mjp.likelihood_covariates",
            "mjp.panels",
            "mjp.newick",
            "mjp.regimes",
            "mjp.on_grid",
            "mjp.drawing",
        ),
    ),
    ("inference", ("mjp.inference",)),
    ("numpyro_bridge", ("mjp.numpyro_bridge",)),
    ("kernels", ("mjp.inference.kernels",)),
    ("fitting", ("mjp.fitting",)),
    ("report", ("mjp.report",)),
    ("models", ("mjp.models",)),
    ("cli", ("mjp.cli", "mjp.__main__")),
]
ORDER = [layer for layer, _ in LAYERS]

# `import mjp` runs mjp/__init__.py, which imports nearly every layer. Ready models and the command
# line are written as a user would write them; everything below names the module it needs.
MAY_IMPORT_THE_WHOLE = {"models", "cli"}

# A fit hands itself to the report on request (`fit.report(path)`), and `mjp.inference` offers the kernels
# under its own name; nothing else looks upwards.
UPWARDS = {
    ("mjp.fitting.result", "mjp.report.write_report"),
    ("mjp.inference", "mjp.inference.kernels"),
}

# The messengers (sample, plate, factor, handlers, scan) are the one part of NumPyro that makes a
# function behave differently by where it is called from, so one module deals with them.
MESSENGERS = ("numpyro.primitives", "numpyro.handlers", "numpyro.contrib.control_flow")
MAY_IMPORT_MESSENGERS = {"numpyro_bridge", "models"}

SLOW = {"arviz", "arviz_base", "arviz_plots", "arviz_stats"}


class Import(NamedTuple):
    line: int
    module: str  # the dotted name, e.g. "mjp.graph", "numpyro.handlers", "numpyro.sample"
    at_import_time: bool  # executed when the file is imported, that is, not in a function body


def imports(path: Path, module: str) -> Iterator[Import]:
    """All imports of a file, those inside functions and those by importlib included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, at_import_time: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for name in node.names:
                # `import numpyro.distributions` binds `numpyro`, and with it all that numpyro offers
                bound = name.name if name.asname else name.name.partition(".")[0]
                yield Import(node.lineno, bound, at_import_time)
                if bound != name.name:
                    yield Import(node.lineno, name.name, at_import_time)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            for name in node.names:
                yield Import(node.lineno, f"{base}.{name.name}", at_import_time)
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"} and node.args:
                argument = node.args[0]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield Import(node.lineno, argument.value, at_import_time)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            # still an import of the layer's names, but nothing is loaded
            for child in node.body:
                yield from walk(child, False)
            for child in node.orelse:
                yield from walk(child, at_import_time)
            return
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, at_import_time and not in_function)

    yield from walk(ast.parse(path.read_text(encoding="utf-8"), str(path)), True)


def within(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(prefix + ".")


def layer_of(module: str) -> str | None:
    found = [
        (len(prefix), layer) for layer, prefixes in LAYERS for prefix in prefixes if within(module, prefix)
    ]
    return max(found)[1] if found else None


def mjp_faults(layer: str, module: str) -> str | None:
    target = layer_of(module)
    if target is None:
        # `mjp`, or a name that only mjp/__init__.py defines, such as mjp.Graph
        if layer in MAY_IMPORT_THE_WHOLE:
            return None
        return "which is the package as a whole, or a module of no layer; name a module listed in LAYERS"
    if ORDER.index(target) > ORDER.index(layer):
        return f"which is in the layer {target}, above {layer}"
    return None


def numpyro_faults(layer: str, module: str) -> str | None:
    height = ORDER.index(layer)
    if within(module, "numpyro.distributions"):
        return None if height >= ORDER.index("graph") else f"and {layer} knows nothing of NumPyro"
    # numpyro itself re-exports the messengers: `import numpyro`, `from numpyro import sample`
    submodules = ("numpyro.infer", "numpyro.util", "numpyro.diagnostics", "numpyro.optim", "numpyro.contrib")
    if any(within(module, m) for m in MESSENGERS) or not any(within(module, m) for m in submodules):
        allowed = layer in MAY_IMPORT_MESSENGERS
        return None if allowed else "and only numpyro_bridge and models may reach NumPyro's messengers"
    allowed = height >= ORDER.index("kernels")
    return None if allowed else f"and {layer} is independent of NumPyro's samplers"


def faults(package: Path) -> list[str]:
    """Every import of the package that breaks a rule, as a line of text."""
    out = []
    for path in sorted(package.rglob("*.py")):
        relative = path.relative_to(package.parent)
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        layer = layer_of(module)
        if layer is None and module != "mjp":
            out.append(f"{relative}: belongs to no layer; add it to LAYERS in {Path(__file__).name}")
            continue
        for found in imports(path, module):
            here = f"{relative}:{found.line}: imports {found.module}"
            if found.at_import_time and found.module.partition(".")[0] in SLOW:
                out.append(f"{here} when it is imported; arviz is slow, import it inside a function")
            if layer is None:
                # mjp/__init__.py gathers the layers; the report brings plotting with it and has to wait
                if found.at_import_time and within(found.module, "mjp.report"):
                    out.append(f"{here} when it is imported; it has to be imported on first use")
                continue
            why = None
            if (module, found.module) in UPWARDS and not found.at_import_time:
                continue
            if within(found.module, "mjp"):
                why = mjp_faults(layer, found.module)
            elif within(found.module, "numpyro"):
                why = numpyro_faults(layer, found.module)
            if why:
                out.append(f"{here}, {why}")
    return out


def test_imports_point_one_way():
    found = faults(PACKAGE)
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("processes/jump.py", "from mjp.graph import Graph"),
        ("processes/jump.py", "from ..inference.rules import jump"),
        ("processes/jump.py", "def f():\n    from .. import inference"),
        ("processes/jump.py", "import numpyro.distributions as dist"),
        ("processes/jump.py", "from numpyro.infer import MCMC"),
        ("processes/jump.py", "import mjp"),
        ("_checks.py", "from mjp.processes import jump"),
        ("graph.py", "from .inference.schedule import compile"),
        ("graph.py", "from mjp import Graph"),
        ("graph.py", "import importlib\nimportlib.import_module('mjp.inference')"),
        ("inference/schedule.py", "from mjp.numpyro_bridge import sample"),
        ("inference/particles.py", "from numpyro.infer import Gibbs"),
        ("inference/schedule.py", "from numpyro import handlers"),
        ("inference/schedule.py", "import numpyro.distributions"),
        ("numpyro_bridge.py", "from mjp.fitting import fit"),
        ("fitting/__init__.py", "from ..report import write"),
        ("fitting/__init__.py", "from numpyro.handlers import seed"),
        ("fitting.py", "import numpyro"),
        ("report/page.py", "from mjp.models import cav"),
        ("report/page.py", "import arviz as az"),
        ("report/page.py", "try:\n    from arviz import summary\nexcept ImportError:\n    pass"),
        ("models/cav.py", "from mjp.cli import main"),
        ("elsewhere.py", "x = 1"),
        ("__init__.py", "from .report import write"),
        ("__init__.py", "from mjp import report"),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, file, source):
    path = tmp_path / "mjp" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert len(faults(tmp_path / "mjp")) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (
            "processes/jump.py",
            "import numpy as np\nfrom mjp._checks import positive\nfrom .base import Process",
        ),
        ("graph.py", "import numpyro.distributions as dist\nfrom numpyro import distributions"),
        ("graph.py", "from mjp.processes.jump import MarkovJump\nfrom .shapes import chain"),
        ("inference/rules/jump.py", "from ...processes.jump import MarkovJump\nfrom .. import schedule"),
        ("numpyro_bridge.py", "import numpyro\nfrom numpyro.handlers import seed\nfrom .inference import x"),
        ("fitting.py", "from numpyro.infer import MCMC, NUTS\nfrom numpyro.util import x"),
        ("report/page.py", "def summary():\n    import arviz as az"),
        ("report/page.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import arviz"),
        ("models/cav.py", "import mjp\nimport numpyro\nfrom mjp import MarkovJump"),
        ("cli.py", "import mjp\nfrom mjp.models import cav"),
        ("__init__.py", "from .graph import Graph\ndef __getattr__(name):\n    from . import report"),
    ],
)
def test_an_allowed_import_passes(tmp_path, file, source):
    path = tmp_path / "mjp" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert faults(tmp_path / "mjp") == []


def test_import_mjp_loads_nothing_slow():
    code = "import sys, mjp; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "mjp" in loaded
    assert not loaded & (SLOW | {"matplotlib", "pandas"})
