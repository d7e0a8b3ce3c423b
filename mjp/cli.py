"""The command `mjp`: fit, simulate and draw the ready models."""

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import numpy

    from mjp.fitting import Fit
    from mjp.models import Model, Reported

app = typer.Typer(
    help="Markov processes on graphs: fit ready models to real data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console, errors = Console(width=None if sys.stdout.isatty() else 160), Console(stderr=True)

_Name = Annotated[str, typer.Argument(help="Name of a ready model; see `mjp models`.", metavar="MODEL")]
_Data = Annotated[
    Path | None, typer.Option(help="A CSV file of your own with the columns of the model's data.")
]
_Seed = Annotated[int, typer.Option(help="Fixes the result.")]


@app.command()
def models() -> None:
    """List the ready models."""
    from mjp.models import MODELS

    table = Table("name", "title", "data", box=None, pad_edge=False)
    for entry in MODELS.values():
        table.add_row(entry.name, entry.title, entry.reference)
    console.print(table)


@app.command()
def fit(
    name: _Name,
    data: _Data = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html, fit.nc and summary.csv.")] = Path("out"),
    draws: Annotated[int | None, typer.Option(min=1, help="Draws per chain; default the model's.")] = None,
    warmup: Annotated[int | None, typer.Option(min=0, help="Warm-up per chain; default the model's.")] = None,
    chains: Annotated[int | None, typer.Option(min=1, help="Number of chains; default the model's.")] = None,
    thinning: Annotated[
        int | None, typer.Option(min=1, help="Iterations per draw; default the model's.")
    ] = None,
    seed: _Seed = 0,
    checkpoint: Annotated[
        bool, typer.Option(help="Store the run in DIR/checkpoint, and go on from what is there.")
    ] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Compute in single precision.")] = False,
) -> None:
    """Fit a model, print the posterior, and write a report.

    The exit code is 0 if the run has converged, 1 if not, 2 for an error.
    """
    began = time.perf_counter()
    _precision(float32)
    entry = _model(name)
    values = _load(entry, data)
    given = {"draws": draws, "warmup": warmup, "chains": chains, "thinning": thinning}
    settings = {**entry.settings, **{key: value for key, value in given.items() if value is not None}}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _Stop(f"--out: cannot make the folder {out}: {error.strerror}") from None
    console.print(f"{entry.title}: compiling …")
    result = _fit(entry, values, settings, seed, out / "checkpoint" if checkpoint else None)
    good = _tell(result)
    if data is None and entry.reported is not None:
        _tell_maximum(entry.reported, values)
    _write(result, entry, out)
    console.print(f"{time.perf_counter() - began:.1f} s in all")
    raise typer.Exit(0 if good else 1)


@app.command()
def simulate(
    name: _Name,
    out: Annotated[Path, typer.Option(help="CSV file to write.", dir_okay=False)],
    data: _Data = None,
    value: Annotated[
        list[str] | None,
        typer.Option(
            help="A site's value, such as rate=0.1 or rate=0.1,0.2; sites not named are prior draws."
        ),
    ] = None,
    seed: _Seed = 0,
) -> None:
    """Simulate data at the times, subjects or tips of the model's own data."""
    import jax

    from mjp.inference import simulate as simulate_graph
    from mjp.models.simulated import as_table
    from mjp.processes import is_vector

    _precision(False)
    entry = _model(name)
    values = _load(entry, data)
    parameters = _parameters(entry, values, seed, value or [])
    declared = _graph(entry, values, parameters)
    # jumps between the observations are not needed, so that they get no room
    options = {} if is_vector(declared) else {"max_jumps": 1}
    draw = jax.jit(lambda key: simulate_graph(declared, key, **options))
    frame = as_table(entry, values, declared, draw(jax.random.key(seed)))
    _save(out, lambda: frame.to_csv(out, index=False))
    table = Table("site", "value", box=None, pad_edge=False)
    for site, number in parameters.items():
        table.add_row(site, _in_words(number))
    console.print(table)
    console.print(f"{len(frame)} rows in {out}")


@app.command()
def graph(
    name: _Name,
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .svg or .pdf.", dir_okay=False)],
    data: _Data = None,
) -> None:
    """Draw the graph of a model."""
    import matplotlib

    matplotlib.use("agg")
    entry = _model(name)
    formats = (".png", ".svg", ".pdf")
    if out.suffix.lower() not in formats:
        raise _Stop(f"--out: {out} must end in one of {', '.join(formats)}")
    _precision(False)
    values = _load(entry, data)
    declared = _graph(entry, values, _parameters(entry, values, 0, []))
    figure = declared.draw(max_nodes=1000).figure
    _save(out, lambda: figure.savefig(out, dpi=150, bbox_inches="tight"))
    console.print(f"{declared!r} drawn to {out}")


def main() -> None:
    """Entry point."""
    app()


class _Stop(typer.Exit):
    """Ends the command with one line on standard error and exit code 2."""

    def __init__(self, message: str):
        # a plain print, because the words of a message may look like rich's markup
        errors.print(f"mjp: {message}", markup=False, highlight=False, soft_wrap=True)
        super().__init__(2)


def _precision(float32: bool) -> None:
    import jax

    jax.config.update("jax_enable_x64", not float32)


def _model(name: str) -> "Model":
    from mjp.models import get

    try:
        return get(name)
    except ValueError as error:
        raise _Stop(str(error)) from None


def _load(entry: "Model", data: Path | None) -> Any:
    if data is None:
        return entry.load()
    if not data.is_file():
        raise _Stop(f"--data: there is no file {data}")
    try:
        return entry.load(data)
    except (ValueError, TypeError, OSError) as error:
        text = str(error).removeprefix("path: ")
        raise _Stop(f"--data: {text}") from None


def _fit(entry: "Model", values: Any, settings: dict, seed: int, checkpoint: Path | None) -> "Fit":
    from mjp.fitting import fit as run

    with warnings.catch_warnings():
        # the verdict says the same, and more
        warnings.simplefilter("ignore", UserWarning)
        try:
            return run(entry.model, values, seed=seed, checkpoint=checkpoint, **settings)
        except (ValueError, TypeError) as error:
            raise _Stop(str(error)) from None
        except KeyboardInterrupt as error:
            raise _Stop(str(error) or "interrupted") from None


def _tell(result: "Fit") -> bool:
    """Print the summary and the verdict; whether the run has converged."""
    from mjp.report import judge
    from mjp.report.posterior import summary_rows

    header, rows = summary_rows(result)
    shown = [i for i, column in enumerate(header) if not column.startswith("MCSE")]  # a terminal is narrow
    table = Table(box=None, pad_edge=False)
    for i in shown:
        table.add_column(header[i], justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[i].replace("[", "\\[") for i in shown))
    console.print(table)
    verdict = judge(result)
    console.print(f"\n[bold]{verdict.headline}[/bold]")
    for problem in verdict.problems:
        console.print(f"- {problem}", markup=False, highlight=False)
    return verdict.good


def _tell_maximum(reported: "Reported", values: Any) -> None:
    """Print -2 log-likelihood at the maximum beside what is reported."""
    from mjp.models import maximise

    found = maximise(lambda x: reported.log_likelihood(x, values), reported.start)
    console.print(
        f"\n-2 log-likelihood at its maximum: {-2 * found.value:.3f}; {reported.source} reports "
        f"{reported.deviance:.3f}"
    )


def _write(result: "Fit", entry: "Model", out: Path) -> None:
    from mjp.report import write_report

    with console.status("paths, replicated data and report"):
        page = write_report(result, out / "report.html", title=entry.title)
        _save(out / "fit.nc", lambda: result.data.to_netcdf(out / "fit.nc"))
        _save(out / "summary.csv", lambda: result.summary(round_to="none").to_csv(out / "summary.csv"))
    console.print(f"\n{page}, {out / 'fit.nc'} and {out / 'summary.csv'} are written")


def _save(path: Path, write: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise _Stop(f"--out: cannot write {path}: {error.strerror or error}") from None


def _parameters(entry: "Model", values: Any, seed: int, given: list[str]) -> "dict[str, numpy.ndarray]":
    """A prior draw of the parameters, with the values given in its place."""
    import jax
    import numpy as np

    from mjp.fitting.draws import prior_draws
    from mjp.numpyro_bridge import HIDDEN, latent_sites

    sites = latent_sites(entry.model, (values,), {})
    drawn = prior_draws(entry.model, (values,), {}, 1, jax.random.key(seed))
    parameters = {site: drawn[site][0] for site in sites if not site.endswith(HIDDEN)}
    for item in given:
        site, _, text = item.partition("=")
        if site not in parameters:
            raise _Stop(f"--value: {item!r}: the model's sites are {', '.join(parameters)}")
        try:
            numbers = np.asarray([float(number) for number in text.split(",")])
            parameters[site] = np.broadcast_to(
                numbers if len(numbers) > 1 else numbers[0], parameters[site].shape
            )
        except ValueError:
            shape = parameters[site].shape
            raise _Stop(f"--value: {item!r}: expected numbers of shape {shape}, or one for all") from None
        if not np.all(sites[site]["fn"].support(parameters[site])):
            raise _Stop(f"--value: {item!r} is outside of the prior's support")
    return parameters


def _graph(entry: "Model", values: Any, parameters: dict[str, Any]) -> Any:
    from mjp.numpyro_bridge import graphs_of

    return graphs_of(entry.model, (values,), {}, parameters)[entry.graph_site]


def _in_words(number: Any) -> str:
    import numpy as np

    return np.array2string(np.asarray(number), precision=4, separator=", ", threshold=40).replace("\n", "")
