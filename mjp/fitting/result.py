"""The posterior of a model, and what can be read from it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import MCMC

from mjp.fitting import groups
from mjp.fitting.draws import PathDraws, draw_paths, log_likelihoods, prior_draws
from mjp.fitting.mixed_draws import draw_mixed_paths
from mjp.fitting.vector_draws import VectorPathDraws, draw_vector_paths
from mjp.graph import Graph
from mjp.numpyro_bridge import HIDDEN, graphs_of, has_agent_jumps, has_jump_path, mixes_families
from mjp.on_grid import node_times
from mjp.processes import MarkovChain, SparseMarkovJump, is_vector
from mjp.state_spaces import shared_states, state_spaces

if TYPE_CHECKING:
    import pandas
    import xarray

_PATH_DRAWS = 200  # posterior draws for which paths and replicated data are kept in `data`
_OVERLOOKED = 1e-4  # share of particles without room
_GRID = 61
_COUNT_STEPS = 10  # between two nodes of a chain of counts
_VECTOR_GRID = 401  # at most; enough for a smooth picture of a path


@dataclass(frozen=True, eq=False)
class Fit:
    """A posterior, made by `mjp.fit`.

    Attributes:
        samples: draws of the latent and deterministic sites, (chain, draw, ...).
        statistics: what the kernel reports per draw, under NumPyro's names.
        settings, seconds: how it was run, and how long it took.
    """

    model: Callable
    args: tuple
    kwargs: dict
    engine: str
    samples: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]
    last_states: Any
    make_kernel: Callable
    settings: dict[str, Any]
    seconds: dict[str, float]
    coords: dict[str, Any] = field(default_factory=dict)
    dims: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def graphs(self) -> dict[str, Graph]:
        """The graphs of the model by site name, at the posterior mean of the parameters."""
        mean = {site: jnp.asarray(values.mean(axis=(0, 1))) for site, values in self.parameters.items()}
        return graphs_of(self.model, self.args, self.kwargs, mean)

    @cached_property
    def data(self) -> "xarray.DataTree":
        """The posterior as an ArviZ-schema DataTree.

        Groups: posterior, sample_stats, log_likelihood, prior, posterior_predictive, observed_data, and
        `paths` with the states at the nodes (`name`) and on a grid of times (`name_on_grid`), and for
        switching processes the regimes (`name_regime`, `name_regime_on_grid`). Vector states
        have a last axis `coordinate`, or `name_coordinate` where several graphs have some. For them there are
        also log-weights of the guide (`name_edge_log_weight`, `name_observation_log_weight`), and data
        replicated from the posterior path itself (`name_measured`), where those of `posterior_predictive`
        are from a new path. Of graphs that mix families there are paths alone. Paths and replicated data are
        drawn for about 200 posterior draws, spread over all chains.
        """
        from arviz_base import from_dict

        tree: dict[str, dict[str, Any]] = {
            "posterior": self.shown,
            "sample_stats": groups.sample_stats(self.statistics),
        }
        dims = groups.site_dims(self.model, self.args, self.kwargs) | self.dims
        coords = dict(self.coords)
        terms = log_likelihoods(self.model, self.args, self.kwargs, self.latent)
        tree["log_likelihood"] = terms
        for name, values in terms.items():
            graph = self.graphs.get(name)
            axes, labels = groups.likelihood_dims(name, graph, values.shape[2:])
            dims.setdefault(name, axes)
            coords |= {k: v for k, v in labels.items() if not isinstance(v, tuple)}
        key = jax.random.key(self.settings["seed"] + 1)
        prior = prior_draws(self.model, self.args, self.kwargs, 500, key)
        tree["prior"] = {name: value[None] for name, value in prior.items()}
        sites = {name: d for name, d in dims.items() if name in self.shown or name in terms}
        result: Any = from_dict(tree, dims=sites, coords=coords)
        import xarray

        for group, dataset in self._path_groups().items():
            result[f"/{group}"] = xarray.DataTree(dataset)
        result.attrs.update(self._attributes())
        return result

    def _path_groups(self) -> "dict[str, xarray.Dataset]":
        import xarray

        paths, predictive, observed = {}, {}, {}
        for name, graph in self.graphs.items():
            if mixes_families(graph):
                paths[name] = self._mixed_paths(name, _PATH_DRAWS)
                continue
            times = self._grid(graph)
            if is_vector(graph):
                self._vector_groups(name, graph, times, paths, predictive, observed)
                continue
            drawn = self._draws(name, times)
            states, spaces = self._states(name), state_spaces(graph)
            paths[name] = groups.path_array(name, graph, drawn.nodes, drawn, None, states)
            if drawn.changes is not None:
                paths[f"{name}_changes"] = groups.change_array(name, drawn, drawn.changes, states)
            if drawn.grid is not None:
                on_grid = groups.path_array(name, graph, drawn.grid, drawn, times, states)
                paths[f"{name}_on_grid"] = on_grid.rename({"time": f"{name}_time"})
            for i, (batch, values) in enumerate(zip(graph.observations, drawn.replicated, strict=True)):
                label = name if len(graph.observations) == 1 else f"{name}_{i}"
                dim, coords = groups.node_coords(name, graph)
                seen = groups.at_nodes(coords, batch.nodes)
                event = [f"{label}_event_{j}" for j in range(values.ndim - 2)]
                attrs = groups.code_attributes(batch, states)
                predictive[label] = xarray.DataArray(
                    groups.reshape_draws(values, drawn),
                    dims=["chain", "draw", dim, *event],
                    coords={"chain": np.unique(drawn.chain), "draw": np.unique(drawn.draw), **seen},
                    attrs=attrs,
                )
                observed[label] = xarray.DataArray(
                    groups.observed_codes(batch, spaces), dims=[dim, *event], coords=seen, attrs=attrs
                )
        return {
            "paths": xarray.Dataset(paths),
            "posterior_predictive": xarray.Dataset(predictive),
            "observed_data": xarray.Dataset(observed),
        }

    def _vector_groups(
        self, name: str, graph: Graph, times: Any, paths: dict, predictive: dict, observed: dict
    ) -> None:
        import xarray

        drawn = self._vector_draws(name, times, _PATH_DRAWS)
        labels = self._coordinates(name, drawn.nodes.shape[-1])
        # a dataset has one set of labels per axis, so that several graphs need an axis each
        alone = sum(map(is_vector, self.graphs.values())) == 1
        axis = {"coordinate": "coordinate" if alone else f"{name}_coordinate"}
        array = groups.vector_array(name, graph, drawn.nodes, drawn, None, labels)
        paths[name] = array.rename(axis)
        dim, coords = groups.node_coords(name, graph)
        for label, weights in (("edge", drawn.edge_weights), ("observation", drawn.site_weights)):
            if weights is None:
                continue
            which = {"chain": np.unique(drawn.chain), "draw": np.unique(drawn.draw), **coords}
            paths[f"{name}_{label}_log_weight"] = xarray.DataArray(
                groups.reshape_draws(weights, drawn), dims=["chain", "draw", dim], coords=which
            )
        if drawn.grid is not None:
            on_grid = groups.vector_array(name, graph, drawn.grid, drawn, times, labels)
            paths[f"{name}_on_grid"] = on_grid.rename({"time": f"{name}_time", **axis})
        if drawn.regimes is not None:
            labels_of = self._regimes(name)
            paths[f"{name}_regime"] = groups.path_array(name, graph, drawn.regimes, drawn, None, labels_of)
            if drawn.regime_grid is not None:
                grid = groups.path_array(name, graph, drawn.regime_grid, drawn, times, labels_of)
                paths[f"{name}_regime_on_grid"] = grid.rename({"time": f"{name}_time"})
        for i, (batch, values) in enumerate(zip(graph.observations, drawn.replicated, strict=True)):
            label = name if len(graph.observations) == 1 else f"{name}_{i}"
            seen = groups.at_nodes(coords, batch.nodes)
            event = [f"{label}_event_{j}" for j in range(values.ndim - 2)]
            which = {"chain": np.unique(drawn.chain), "draw": np.unique(drawn.draw)}
            predictive[label] = xarray.DataArray(
                groups.reshape_draws(values, drawn),
                dims=["chain", "draw", dim, *event],
                coords={**which, **seen},
            )
            # on an axis of its own, since a dataset has the same labels for all arrays along one axis
            paths[f"{label}_measured"] = xarray.DataArray(
                groups.reshape_draws(drawn.measured[i], drawn),
                dims=["chain", "draw", f"{label}_observation", *event],
                coords=which,
            )
            data = groups.observed_numbers(batch, values.shape[1:], self._labels(name))
            observed[label] = xarray.DataArray(data, dims=[dim, *event], coords=seen)

    def paths(self, name: str, times: Any = None, draws: int = _PATH_DRAWS) -> "xarray.DataArray":
        """Posterior draws of the path `name`.

        Args:
            times: (m,) times in the unit of the data, for chains and panels; None for the nodes.
            draws: about how many posterior draws to use.

        Returns:
            positions of states with dims (chain, draw, subject or series, time) or (chain, draw, node);
            -1 before a component begins and after it ends. `attrs["states"]` holds the labels. Vector
            states and counts have a last dim `coordinate`, and are NaN outside of the times of the data; for
            interacting particles, whose states are positions, it are the agents. Graphs that
            mix families have a last dim `name_coordinate`: the position of a state, or coordinates, then NaN.

        Raises:
            ValueError: no such path; times for a graph that mixes families.
        """
        grid = None if times is None else np.atleast_1d(np.asarray(times, dtype=float))
        if name not in self.graphs:
            raise ValueError(f"name: the model has no path {name!r}; it has {list(self.graphs)}")
        if mixes_families(self.graphs[name]):
            if grid is not None:
                raise ValueError(
                    f"times: the path {name!r} mixes families and is read at its nodes; give None"
                )
            return self._mixed_paths(name, draws)
        if is_vector(self.graphs[name]):
            found = self._vector_draws(name, grid, draws)
            values = found.nodes if grid is None else found.grid
            assert values is not None
            labels = self._coordinates(name, values.shape[-1])
            array = groups.vector_array(name, self.graphs[name], values, found, grid, labels)
            if self._labels(name):
                array.attrs["states"] = list(self._labels(name))
            return array
        drawn = self._draws(name, grid, draws)
        values = drawn.nodes if grid is None else drawn.grid
        assert values is not None
        return groups.path_array(name, self.graphs[name], values, drawn, grid, self._states(name))

    def regimes(self, name: str, times: Any = None, draws: int = _PATH_DRAWS) -> "xarray.DataArray":
        """Posterior draws of the regimes of the switching process on the path `name`.

        Args:
            times: (m,) times in the unit of the data; None for the nodes, where the regime is that of the
                step that leads to the node. draws: about how many posterior draws to use.

        Returns:
            positions of regimes with dims (chain, draw, time), for several series (chain, draw, series, time)
            or (chain, draw, node). `attrs["states"]` holds the labels.

        Raises:
            ValueError: no such path, or one without regimes.
        """
        with_regimes = [n for n, graph in self.graphs.items() if self._regimes_of(graph)]
        if name not in with_regimes:
            raise ValueError(f"name: the model has no regimes on a path {name!r}; it has {with_regimes}")
        grid = None if times is None else np.atleast_1d(np.asarray(times, dtype=float))
        found: Any = self._vector_draws(name, grid, draws)
        values = found.regimes if grid is None else found.regime_grid
        return groups.path_array(name, self.graphs[name], values, found, grid, self._regimes(name))

    def summary(self, **options: Any) -> "pandas.DataFrame":
        """Table of means, deviations, intervals, effective sample sizes and R-hat, by ArviZ."""
        import arviz

        table: Any = arviz.summary(self._posterior, **options)
        return table

    def report(self, path: str | Path) -> Path:
        """Write a self-contained HTML page and return its path."""
        from mjp.report import write_report

        return write_report(self, path)

    @cached_property
    def _posterior(self) -> "xarray.DataTree":
        from arviz_base import from_dict

        dims = groups.site_dims(self.model, self.args, self.kwargs) | self.dims
        dims = {name: d for name, d in dims.items() if name in self.shown}
        tree = {"posterior": self.shown, "sample_stats": groups.sample_stats(self.statistics)}
        return from_dict(tree, dims=dims, coords=self.coords)

    @cached_property
    def mcmc(self) -> MCMC:
        """The run as a NumPyro MCMC object, with samples and the field `diverging`."""
        settings = self.settings
        mcmc = MCMC(
            self.make_kernel(),
            num_warmup=settings["warmup"],
            num_samples=settings["draws"] * settings["thinning"],
            thinning=settings["thinning"],
            num_chains=settings["chains"],
            chain_method="sequential",
            progress_bar=False,
        )
        field_name = mcmc.sampler.sample_field
        states = {field_name: self.samples, **self.statistics}
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), states)
        mcmc._states, mcmc._states_flat, mcmc._last_state = states, flat, self.last_states
        mcmc._args, mcmc._kwargs = self.args, self.kwargs
        return mcmc

    @property
    def lacks_room(self) -> bool:
        """Whether buffers of events were too short too often to be overlooked.

        What a share of particles does not reach has at most about that share of the posterior's mass, which
        below one in 10,000 is nothing beside the error of sampling.
        """
        share = float(np.mean(self.statistics.get("overflow_share", np.ones(1))))
        return bool(np.sum(self.statistics.get("overflow", 0)) > 0 and share > _OVERLOOKED)

    @property
    def without_room(self) -> tuple[str, str, str]:
        """Words for whom `overflow` counts, for what happened to them, and for what helps."""
        if any(map(has_agent_jumps, self.graphs.values())):
            remedy = "Give a larger max_events or max_jumps to mjp.sample, or the process a larger bound"
            return "agents", "had more events than there is room for, and kept their paths", remedy
        what = "had more events on an edge than there is room for, and were dropped"
        return "particles", what, "Give a larger max_events to mjp.sample"

    def problems(self) -> list[str]:
        """What is wrong with the run, in words; empty if nothing is."""
        found = []
        diverging = int(self.statistics.get("diverging", np.zeros(1)).sum())
        if diverging:
            total = self.settings["chains"] * self.settings["draws"]
            found.append(f"{diverging} of {total} draws diverged; the posterior may be biased")
        dropped = np.asarray(self.statistics.get("overflow", np.zeros(1)))
        if self.lacks_room:
            who, what, remedy = self.without_room
            found.append(
                f"{int(dropped.sum())} {who}, in {int((dropped > 0).sum())} of {dropped.size} draws, {what}; "
                f"the posterior may be biased towards paths with few events. {remedy}"
            )
        if self.settings["draws"] >= 100:
            from numpyro.diagnostics import split_gelman_rubin

            for name, values in self.parameters.items():
                if self.settings["chains"] < 2:
                    break
                rhat = np.asarray(split_gelman_rubin(values))
                worst = float(np.nanmax(rhat)) if np.isfinite(rhat).any() else 1.0
                if worst > 1.05:
                    found.append(f"{name}: chains have not mixed (R-hat {worst:.2f}); draw more")
        return found

    @cached_property
    def parameters(self) -> dict[str, np.ndarray]:
        """Draws of the latent sites, (chain, draw, ...)."""
        return {name: value for name, value in self.latent.items() if not name.endswith(HIDDEN)}

    @cached_property
    def latent(self) -> dict[str, np.ndarray]:
        """Draws of the latent sites, innovations of guided paths included, (chain, draw, ...)."""
        from mjp.numpyro_bridge import latent_sites

        names = latent_sites(self.model, self.args, self.kwargs)
        return {name: self.samples[name] for name in names}

    @cached_property
    def shown(self) -> dict[str, np.ndarray]:
        """Draws of all sites but innovations."""
        return {name: value for name, value in self.samples.items() if not name.endswith(HIDDEN)}

    def _states(self, name: str) -> tuple:
        return shared_states(self.graphs[name])

    def _regimes(self, name: str) -> tuple:
        return self._regimes_of(self.graphs[name])

    @staticmethod
    def _regimes_of(graph: Graph) -> tuple:
        """Labels of the regimes of a switching process; none for others."""
        return tuple(getattr(graph.edges[0].process, "regimes", ())) if graph.edges else ()

    def _labels(self, name: str) -> tuple:
        """Labels of the states of single coordinates, where they have some."""
        return getattr(self.graphs[name].edges[0].process, "states", ())

    def _grid(self, graph: Graph) -> np.ndarray | None:
        if graph.kind not in ("chain", "panel"):
            return None
        times = node_times(graph)
        process: Any = graph.edges[0].process
        if isinstance(process, SparseMarkovJump):
            return None  # there are no paths between its nodes
        in_steps = is_vector(graph) and not getattr(process, "continuous", True)
        if isinstance(process, MarkovChain) or in_steps:
            return np.unique(times)
        if not is_vector(graph):
            return np.linspace(times.min(), times.max(), _GRID)
        times = np.unique(times)  # and as many times between two nodes as there are steps, or room
        edges = len(times) - 1
        in_time = has_jump_path(graph) or has_agent_jumps(graph)
        between = _COUNT_STEPS if in_time else graph.edges[0].steps or 1
        points = edges * max(1, min(between, _VECTOR_GRID // edges)) + 1
        return np.interp(np.linspace(0, edges, points), np.arange(edges + 1), times)

    def _coordinates(self, name: str, dim: int) -> list:
        """Labels of the coordinates of a vector state: `coords[name + "_coordinate"]`, or species."""
        process: Any = self.graphs[name].edges[0].process
        known = getattr(process, "species", getattr(process, "agents", ()))
        labels = list(self.coords.get(f"{name}_coordinate", known))
        labels = [label if isinstance(label, str | int | float) else str(label) for label in labels]
        return labels if len(labels) == dim else list(range(dim))

    def _draws(self, name: str, times: np.ndarray | None, number: int = _PATH_DRAWS) -> PathDraws:
        key = jax.random.key(self.settings["seed"] + 2)
        return draw_paths(self.model, self.args, self.kwargs, self.parameters, name, times, number, key)

    def _mixed_paths(self, name: str, number: int) -> "xarray.DataArray":
        found = draw_mixed_paths(self.model, self.args, self.kwargs, self.latent, name, number)
        coordinates = list(range(found.nodes.shape[-1]))
        array = groups.vector_array(name, self.graphs[name], found.nodes, found, None, coordinates)
        return array.rename({"coordinate": f"{name}_coordinate"})

    def _vector_draws(self, name: str, times: np.ndarray | None, number: int) -> VectorPathDraws:
        key = jax.random.key(self.settings["seed"] + 2)
        return draw_vector_paths(self.model, self.args, self.kwargs, self.latent, name, times, number, key)

    def _attributes(self) -> dict[str, Any]:
        return {
            "inference_library": "mjp",
            "engine": self.engine,
            "sampling_time": self.seconds["sampling"],
            "compilation_time": self.seconds["compilation"],
        }

    def __repr__(self) -> str:
        s = self.settings
        return f"Fit({s['model']}: {s['chains']} chains of {s['draws']} draws by {self.engine})"
