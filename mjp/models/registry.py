"""The ready models by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mjp.inference.kernels import PseudoMarginal
from mjp.models import (
    anole_sizes,
    anoles,
    cav,
    earthquakes,
    hagelloch,
    heston,
    influenza,
    ion_channel,
    lasers,
    lynx_hare,
    lynx_hare_counts,
    neuron,
    nile,
    psor,
    regimes,
    sp500,
)


class Reported(NamedTuple):
    """A maximum of the likelihood that other software, or a book, reports for the package's data.

    Attributes:
        source: who reports it.
        deviance: -2 times the log-likelihood there.
        log_likelihood: from unconstrained parameters (n,) and the data to the log-likelihood.
        start: (n,) parameters to start a search from.
    """

    source: str
    deviance: float
    log_likelihood: Callable[[Any, Any], Any]
    start: tuple[float, ...]


@dataclass(frozen=True)
class Model:
    """A model with its data, ready for `mjp.fit(entry.model, entry.load(), **entry.settings)`.

    Attributes:
        name: as on the command line.
        title: one line for a report.
        model: the NumPyro model, a function of what `load` returns.
        load: reads the data; its argument `path` is a CSV file of the user's, None for the package's.
        graph_site: name of the site that holds the path.
        description: what is modelled, in a paragraph.
        reference: the source of data and model.
        settings: arguments of `mjp.fit`, with the labels of the sites' axes.
        columns: names of the columns that `load` reads: subject, time and state of a panel; the times of a
            chain, or the nodes of a tree, and then what is observed.
        table: from the data and simulated observations (n, ...) to the columns of a table that `load` reads,
            where these are not the observations themselves.
        reported: a maximum of the likelihood to compare with.
    """

    name: str
    title: str
    model: Callable[..., None]
    load: Callable[..., Any]
    graph_site: str
    description: str
    reference: str
    settings: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    table: Callable[[Any, Any], Mapping[str, Any]] | None = None
    reported: Reported | None = None


def _settings(coords: dict | None = None, dims: dict | None = None) -> dict[str, Any]:
    # A sample site names its axes itself (`infer={"event_dims": ...}`); a deterministic site cannot, and
    # needs `dims`.
    return {"draws": 1000, "warmup": 1000, "chains": 4, "coords": coords or {}, "dims": dims or {}}


_CAV = "Sharples et al. (2003), Transplantation 76(4):679-682; data of the R package msm"
_ANOLES = "Mahler et al. (2010), Evolution 64:2731-2745; data of the R package phytools"

_ENTRIES = (
    Model(
        name="cav",
        title="Coronary disease after heart transplant",
        model=cav.transplant,
        load=cav.load,
        graph_site="disease",
        description=(
            "622 heart transplant recipients, graded well, mild or severe at yearly angiograms, until death, "
            "whose date is known. The disease is a Markov jump process with seven rates per year; the grades "
            "are taken as true."
        ),
        reference=_CAV,
        settings=_settings(cav.COORDS),
        columns=("PTNUM", "years", "state"),
        reported=Reported("msm", 3968.798, cav.log_likelihood, (-2.0,) * len(cav.TRANSITIONS)),
    ),
    Model(
        name="cav-misclassified",
        title="Coronary disease after heart transplant, graded with errors",
        model=cav.misclassified,
        load=cav.load,
        graph_site="disease",
        description=(
            "The same patients, with a disease that only progresses (five rates per year) and angiograms "
            "that may be read one grade too high or too low, with unknown probabilities."
        ),
        reference=_CAV,
        settings=_settings(cav.COORDS_MISCLASSIFIED),
        columns=("PTNUM", "years", "state"),
    ),
    Model(
        name="psor",
        title="Joint damage in psoriatic arthritis",
        model=psor.progression,
        load=psor.load,
        graph_site="damage",
        description=(
            "Patients whose count of damaged joints grows through four states, at three rates that depend "
            "on two signs recorded at each visit: effusions and a low sedimentation rate."
        ),
        reference="Gladman and Farewell (1999), J. Rheumatol. 26(11):2409-2413; data of the R package msm",
        settings=_settings(psor.COORDS),
        columns=("ptnum", "months", "state"),
    ),
    Model(
        name="earthquakes",
        title="Yearly numbers of major earthquakes",
        model=earthquakes.seismicity,
        load=earthquakes.load,
        graph_site="activity",
        description=(
            "107 yearly counts of earthquakes of magnitude 7 or more, Poisson with a rate that a hidden "
            "Markov chain switches between three ordered levels."
        ),
        reference="Zucchini, MacDonald and Langrock (2016), Hidden Markov Models for Time Series, 2nd ed.",
        settings=_settings(earthquakes.coords(), {"rate": ["regime"]}),
        columns=("year", "count"),
    ),
    Model(
        name="anoles",
        title="Ecomorphs of anole lizards, equal rates",
        model=anoles.er,
        load=anoles.load,
        graph_site="ecomorph",
        description=(
            "82 lizard species of six habitat types at the tips of a dated tree. The type of a lineage is a "
            "Markov jump process in which every change has the same rate."
        ),
        reference=_ANOLES,
        settings=_settings(),
        columns=("species", "ecomorph"),
    ),
    Model(
        name="anoles-symmetric",
        title="Ecomorphs of anole lizards, a rate per pair",
        model=anoles.symmetric,
        load=anoles.load,
        graph_site="ecomorph",
        description=(
            "The same lizards, with one rate for each of the fifteen pairs of habitat types, drawn from a "
            "common law whose spread is estimated."
        ),
        reference=_ANOLES,
        settings=_settings(anoles.COORDS, {"rate": ["pair"]}),
        columns=("species", "ecomorph"),
    ),
    Model(
        name="nile",
        title="Yearly flow of the Nile",
        model=nile.local_level,
        load=nile.load,
        graph_site="level",
        description=(
            "100 yearly flows of the Nile at Aswan: a level that takes one normal step per year, and flows "
            "that deviate from it. The level is integrated out exactly."
        ),
        reference="Durbin and Koopman (2012), Time Series Analysis by State Space Methods, 2nd ed.",
        settings=_settings(),
        columns=nile.COLUMNS,
        reported=Reported("a diffuse Kalman filter", 1283.171, nile.log_likelihood, (9.0, 7.0)),
    ),
    Model(
        name="sp500",
        title="Volatility of the S&P 500 index",
        model=sp500.stochastic_volatility,
        load=sp500.load,
        graph_site="log_variance",
        description=(
            "750 daily returns of the index to the end of 2018, whose log-variance is an autoregression that "
            "nobody sees."
        ),
        reference="Kim, Shephard and Chib (1998), Rev. Econ. Stud. 65(3):361-393; data of the package arch",
        settings=_settings(),
        columns=(sp500.DAY, sp500.CLOSE),
        table=sp500.table,
    ),
    Model(
        name="heston",
        title="Volatility of the S&P 500 index, a square-root diffusion",
        model=heston.square_root_volatility,
        load=heston.load,
        graph_site="variance",
        description=(
            "The same returns, whose variance is a Cox-Ingersoll-Ross process in continuous time, positive "
            "and never seen; one step per day."
        ),
        reference="Heston (1993), Rev. Financ. Stud. 6(2):327-343; data of the package arch",
        settings=_settings(heston.COORDS),
        columns=(sp500.DAY, sp500.CLOSE),
        table=sp500.table,
    ),
    Model(
        name="regimes",
        title="Calm and wild days of the S&P 500 index",
        model=regimes.switching_returns,
        load=regimes.load,
        graph_site="level",
        description=(
            "2500 daily returns of the index to the end of 2018, normal with a mean and a deviation that "
            "switch between a calm and a wild regime. Nobody sees the regime; it is integrated out exactly."
        ),
        reference="Hardy (2001), N. Am. Actuar. J. 5(2):41-53; data of the package arch",
        settings=_settings(regimes.COORDS, {"dispersion": ["regime"]}),
        columns=(sp500.DAY, sp500.CLOSE),
        table=regimes.table,
    ),
    Model(
        name="lynx-hare",
        title="Lynx and hare around Hudson Bay",
        model=lynx_hare.predation_cycle,
        load=lynx_hare.load,
        graph_site="log_numbers",
        description=(
            "Pelts of hare and lynx in 21 years, log-normal around the numbers of a Lotka-Volterra diffusion "
            "with noise in proportion to the numbers, stepped ten times per year."
        ),
        reference="Carpenter (2018), Lotka-Volterra model in Stan; pelts of the Hudson's Bay Company",
        settings=_settings(lynx_hare.COORDS),
        columns=lynx_hare.COLUMNS,
    ),
    Model(
        name="lynx-hare-counts",
        title="Lynx and hare around Hudson Bay, birth by birth",
        model=lynx_hare_counts.predation_events,
        load=lynx_hare_counts.load,
        graph_site="numbers",
        description=(
            "The same pelts, log-normal around the counts of a Lotka-Volterra jump process, whose births and "
            "deaths happen one by one, in units of 500 pelts."
        ),
        reference="Carpenter (2018), Lotka-Volterra model in Stan; pelts of the Hudson's Bay Company",
        # few draws, which hold whole paths, with many moves between them
        settings={
            **_settings(lynx_hare_counts.COORDS),
            "draws": 500,
            "warmup": 500,
            "engine": PseudoMarginal(lynx_hare_counts.predation_events, particles=300, moves=10),
        },
        columns=lynx_hare_counts.COLUMNS,
    ),
    Model(
        name="anole-sizes",
        title="Body sizes of anole lizards, Brownian motion",
        model=anole_sizes.brownian,
        load=anole_sizes.load,
        graph_site="log_size",
        description=(
            "Log body lengths of 82 lizard species at the tips of a dated tree, evolved by a Brownian motion "
            "along its branches, which is integrated out exactly."
        ),
        reference=_ANOLES,
        settings=_settings(),
        columns=anole_sizes.COLUMNS,
    ),
    Model(
        name="anole-sizes-optimum",
        title="Body sizes of anole lizards, drawn to an optimum",
        model=anole_sizes.ornstein_uhlenbeck,
        load=anole_sizes.load,
        graph_site="log_size",
        description=(
            "The same sizes, evolved by an Ornstein-Uhlenbeck process that has reached its stationary law at "
            "the root."
        ),
        reference=_ANOLES,
        settings=_settings(),
        columns=anole_sizes.COLUMNS,
    ),
    Model(
        name="anole-sizes-clades",
        title="Body sizes of anole lizards, optima by clade",
        model=anole_sizes.optima_by_clade,
        load=anole_sizes.load,
        graph_site="log_size",
        description=(
            "The same sizes and process, with an optimum for each of three clades: the giants of Cuba, those "
            "of Hispaniola and Puerto Rico, and the bush anoles of Cuba."
        ),
        reference=_ANOLES,
        settings=_settings(anole_sizes.COORDS, {"difference": ["clade"]}),
        columns=anole_sizes.COLUMNS,
    ),
    Model(
        name="neuron",
        title="A noisy neuron seen through its potential",
        model=neuron.firing,
        load=neuron.load,
        graph_site="neuron",
        description=(
            "100 simulated records of the membrane potential of a FitzHugh-Nagumo neuron with noise, whose "
            "recovery is never seen; five steps between two records."
        ),
        reference="simulated; model of FitzHugh (1961), Biophysical Journal 1(6):445-466",
        settings=_settings(neuron.COORDS),
        columns=neuron.COLUMNS,
    ),
    Model(
        name="influenza",
        title="Influenza in a boarding school",
        model=influenza.outbreak,
        load=influenza.load,
        graph_site="epidemic",
        description=(
            "Boys in bed on 14 days of an outbreak among 763, negative binomial around the number of "
            "infected boys of a stochastic epidemic, infection by infection."
        ),
        reference="Grinsztajn et al. (2021), Stat. Med. 40(27):6209-6234; Br. Med. J. (1978) 1:587",
        settings=_settings(),
        columns=influenza.COLUMNS,
        table=influenza.table,
    ),
    Model(
        name="hagelloch",
        title="Measles in the village of Hagelloch",
        model=hagelloch.measles,
        load=hagelloch.load,
        graph_site="epidemic",
        description=(
            "188 children who caught measles in 1861, day by day. They infect each other at home and in "
            "class, at two rates; when they fell ill is known, and when they were infected is not."
        ),
        reference="Neal and Roberts (2004), Biostatistics 5(2):249-261; data of the R package surveillance",
        settings={**_settings(), "thinning": 5},
        columns=hagelloch.COLUMNS,
        table=hagelloch.table,
    ),
    Model(
        name="ion-channel",
        title="An ion channel that opens and shuts",
        model=ion_channel.opening,
        load=ion_channel.load,
        graph_site="channel",
        description=(
            "A simulated channel, looked at every 10 ms, 2000 times. Its state is a Markov jump process with "
            "two rates, and a look may be wrong with an unknown probability."
        ),
        reference="simulated by SCSIM for HJCFIT; Colquhoun and Hawkes (1981), Proc. R. Soc. B 211:205-235",
        settings=_settings(ion_channel.COORDS),
        columns=ion_channel.COLUMNS,
        table=ion_channel.table,
    ),
    Model(
        name="lasers",
        title="Lasers that wear out",
        model=lasers.degradation,
        load=lasers.load,
        graph_site="increase",
        description=(
            "The increase of the operating current of 15 lasers, read every 250 hours for 4000 hours. Each "
            "is a Gamma process, which only increases, with a speed of its own; the likelihood is exact."
        ),
        reference="Meeker and Escobar (1998), Statistical Methods for Reliability Data, table C.17",
        settings=_settings(lasers.COORDS, {"deviation": ["unit"], "wear": ["unit"]}),
        columns=lasers.COLUMNS,
        table=lasers.table,
    ),
)

MODELS: dict[str, Model] = {entry.name: entry for entry in _ENTRIES}


def get(name: str) -> Model:
    """The model of this name, written with hyphens or underscores.

    Raises:
        ValueError: there is none; the message lists the names.
    """
    try:
        return MODELS[name.replace("_", "-")]
    except KeyError:
        raise ValueError(f"there is no model {name!r}; the models are {', '.join(MODELS)}") from None
