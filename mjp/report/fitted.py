"""What was fitted, and with what."""

import inspect
import os
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from mjp.graph import Graph
from mjp.numpyro_bridge import mixes_families
from mjp.on_grid import node_times
from mjp.processes import is_vector
from mjp.report.parts import Paragraph, Part, Table
from mjp.report.paths import process_of
from mjp.report.vectors import process_in_words, vector_rows

if TYPE_CHECKING:
    from mjp.fitting import Fit


def section(fit: "Fit") -> list[Part]:
    """Model, data and run."""
    model = inspect.unwrap(fit.model)
    doc = inspect.getdoc(model) if inspect.isfunction(model) else None
    parts: list[Part] = [Paragraph(doc.strip().splitlines()[0])] if doc else []
    s = fit.settings
    n = sum(int(np.prod(values.shape[2:])) for values in fit.parameters.values())
    rows = [["model", s["model"]], ["parameters", f"{n} ({', '.join(fit.parameters)})"]]
    for name, graph in fit.graphs.items():
        rows.append([f"path {name!r}", _graph_in_words(graph)])
        if graph.edges and is_vector(graph) and not mixes_families(graph):
            rows += vector_rows(fit, name, graph)
    if not fit.graphs:
        rows.append(["paths", "none; the model declares no graph"])
    rows += [
        ["engine", fit.engine],
        [
            "draws",
            f"{s['chains']} chains of {s['draws']} draws"
            + (f", each the last of {s['thinning']} iterations" if s["thinning"] > 1 else "")
            + f", after {s['warmup']} of warm-up; seed {s['seed']}",
        ],
        ["time", f"{fit.seconds['compilation']:.1f} s to compile, {fit.seconds['sampling']:.1f} s to sample"],
    ]
    parts.append(Table(["", ""], rows))
    return parts


def _graph_in_words(graph: Graph) -> str:
    if mixes_families(graph):
        kinds = dict.fromkeys(type(edges.process).__name__ for edges in graph.edges)
        return f"{' and '.join(kinds)}; a graph of {graph.n_nodes} nodes"
    process = process_of(graph)
    text = process_in_words(graph) if graph.edges and is_vector(graph) else type(process).__name__
    if (states := getattr(process, "states", None)) is not None:
        words = ", ".join(map(str, states[:8])) + (", …" if len(states) > 8 else "")
        text += f" on {len(states)} states ({words})"
    text += "; "
    shape: Any = graph
    if graph.kind == "panel":
        panel = shape.panel
        times, gaps = panel.times, np.diff(panel.times)[~panel.is_last[:-1]]
        between = f", {np.median(gaps):.3g} apart in the median" if len(gaps) else ""
        text += (
            f"a panel of {panel.n_subjects} subjects with {panel.n_rows} rows, at times {times.min():g} to "
            f"{times.max():g}{between}"
        )
        if panel.covariates:
            text += f"; covariates {', '.join(panel.covariates)}"
        if panel.n_dropped:
            text += f"; {panel.n_dropped} rows with missing covariates left out"
    elif graph.kind == "chain":
        times = node_times(graph)
        many = f"{shape.n_series} series of " if shape.n_series else ""
        text += f"a chain of {many}{shape.n_times} times from {times.min():g} to {times.max():g}"
    elif graph.kind == "tree":
        roots = sum(len(batch.nodes) for batch in graph.roots)
        forest = f" in {roots} trees" if roots > 1 else ""
        text += f"a tree with {len(shape.leaves)} tips and {graph.n_nodes} nodes{forest}"
    else:
        text += f"a graph of {graph.n_nodes} nodes"
    return text


def environment(fit: "Fit") -> list[Part]:
    """Versions and machine."""
    packages = ("mjp", "jax", "jaxlib", "numpyro", "arviz", "xarray", "numpy", "scipy", "pandas")
    floats = {str(v.dtype) for v in fit.samples.values() if np.issubdtype(v.dtype, np.floating)}
    rows = [
        ["Python", f"{platform.python_implementation()} {platform.python_version()}"],
        ["packages", ", ".join(f"{name} {version(name)}" for name in packages)],
        ["machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"],
        ["computed on", f"{jax.default_backend()}, in {', '.join(sorted(floats))}"],
    ]
    return [Table(["", ""], rows)]
