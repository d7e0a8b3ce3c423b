"""The ready models by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mjp.models import anoles, cav, earthquakes, psor


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
    """

    name: str
    title: str
    model: Callable[..., None]
    load: Callable[..., Any]
    graph_site: str
    description: str
    reference: str
    settings: dict[str, Any] = field(default_factory=dict)


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
    ),
)

MODELS: dict[str, Model] = {entry.name: entry for entry in _ENTRIES}


def get(name: str) -> Model:
    """The model of this name; raises ValueError, with the list of names, if there is none."""
    try:
        return MODELS[name]
    except KeyError:
        raise ValueError(f"there is no model {name!r}; the models are {', '.join(MODELS)}") from None
