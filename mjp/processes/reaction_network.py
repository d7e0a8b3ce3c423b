"""Reaction networks: jump processes on counts."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from mjp._checks import check_labels, check_times, is_concrete
from mjp._signatures import required_arguments
from mjp.processes.conservation import conservation_laws
from mjp.processes.counts import Counts
from mjp.processes.markov_jump import MarkovJump
from mjp.processes.process import Process
from mjp.processes.reachable import Reachable, reachable_states
from mjp.processes.reaction_strings import Reaction, parse_reaction

LARGEST_COUNT = 2**30  # of an initial state, so that sums with a stoichiometry fit 32 bits

type Rate = Any  # a number, (pieces,) numbers, or a propensity (x) -> rate or (t, x) -> rate


class ReactionNetwork(Process):
    """A jump process on counts of species: reaction l fires at rate a_l(t, x) and adds its stoichiometry.

    Args:
        reactions: pairs ("S + I -> 2 I", rate); "0" or an empty side stands for nothing. A rate is one of

            - a number c (or an array of shape ()): stochastic mass action, c times the number of distinct
              ways to choose the reactants: c x for "X -> …", c x y for "X + Y -> …", c x (x - 1) / 2 for
              "2 X -> …" (Wilkinson 2018, §6.3; GillesPy2's convention);
            - with `breaks`, an array (pieces,) of such numbers;
            - a propensity, a function of the counts x, or of (t, x), to the rate itself. `x["S"]` and
              `x[0]` are counts as floating-point numbers. Propensities that read t are held constant
              between breaks, which they need therefore: t is the last break that has passed, and the first
              break before it.
        species: names of the coordinates of a state; default those of the reactions, in the order of first
            appearance.
        breaks: increasing times at which rates change, p of them make p + 1 pieces.
        counters: species that only count events, and begin anew at every node: their value at a node is what
            happened since the node before, such as new cases since the last report. Nothing needs or removes
            them, and first states need not name them.

    Rates are per unit of the time in which durations are given. A reaction that needs more than there is
    must have propensity zero; what is found otherwise during a simulation is reported, with the state.

        epidemic = mjp.ReactionNetwork([("S + I -> 2 I", 0.0022), ("I -> R", 0.45)])
        reported = mjp.ReactionNetwork([("S + I -> 2 I + new", 0.0022), ("I -> R", 0.45)], counters=["new"])

    Raises:
        ValueError: text that is not a reaction, unknown or repeated species, a reaction that occurs twice,
            negative or non-finite rates, wrong shapes; a counter that no reaction adds to, or that one needs.
        TypeError: rates that are neither numbers nor functions of (x) or (t, x).
    """

    rates: tuple  # (L,) numbers or arrays; None where a function is the propensity
    functions: tuple[Callable | None, ...] = eqx.field(static=True)  # of (x) or (t, x)
    reads_time: tuple[bool, ...] = eqx.field(static=True)
    reactants: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # (L, d)
    change: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # (L, d)
    reactions: tuple[str, ...] = eqx.field(static=True)
    species: tuple[str, ...] = eqx.field(static=True)
    breaks: tuple[float, ...] = eqx.field(static=True)
    counters: tuple[str, ...] = eqx.field(static=True)

    def __init__(
        self,
        reactions: Sequence[tuple[str, Rate]],
        species: Sequence[str] | None = None,
        *,
        breaks: Sequence[float] = (),
        counters: Sequence[str] = (),
    ):
        pairs = _pairs(reactions)
        parsed = [parse_reaction(text) for text, _ in pairs]
        appeared = tuple(dict.fromkeys(name for reaction in parsed for name in reaction.species))
        names = appeared if species is None else _species(species)
        for reaction, (text, _) in zip(parsed, pairs, strict=True):
            for name in reaction.species:
                if name not in names:
                    raise ValueError(
                        f"reactions: {text!r} has the species {name!r}, which is not in species {list(names)}"
                    )
        needs = [tuple(reaction.reactants.get(name, 0) for name in names) for reaction in parsed]
        gives = [tuple(reaction.products.get(name, 0) for name in names) for reaction in parsed]
        self._set(needs, gives, [rate for _, rate in pairs], names, breaks, counters)

    def _set(
        self, needs: list, gives: list, rates: Sequence, species: tuple, breaks: Any, counters: Sequence[str]
    ) -> None:
        self.species = species
        self.breaks = tuple(check_times("breaks", breaks).tolist()) if np.size(breaks) else ()
        self.reactants = tuple(tuple(int(v) for v in row) for row in needs)
        self.change = tuple(
            tuple(int(b) - int(a) for a, b in zip(x, y, strict=True))
            for x, y in zip(needs, gives, strict=True)
        )
        texts = [_text(species, x, y) for x, y in zip(needs, gives, strict=True)]
        self.counters = self._checked_counters(counters, texts)
        for i, text in enumerate(texts):
            if (needs[i], gives[i]) in list(zip(needs, gives, strict=True))[:i]:
                raise ValueError(f"reactions: {text!r} occurs twice; give it once, with the sum of the rates")
        self.reactions = tuple(texts)
        numbers, functions, reads_time = [], [], []
        for text, rate in zip(texts, rates, strict=True):
            numbers.append(None if callable(rate) else self._number(text, rate))
            functions.append(rate if callable(rate) else None)
            reads_time.append(callable(rate) and self._reads_time(text, rate))
        self.rates, self.functions, self.reads_time = tuple(numbers), tuple(functions), tuple(reads_time)

    @classmethod
    def from_stoichiometry(
        cls,
        change: Any,
        rates: Sequence[Rate] | Any,
        species: Sequence[str],
        *,
        reactants: Any = None,
        breaks: Sequence[float] = (),
        counters: Sequence[str] = (),
    ) -> "ReactionNetwork":
        """A network given by arrays.

        Args:
            change: (L, d) integers, what each reaction adds to each species.
            rates: L rates as in the constructor: numbers (mass action) or propensities.
            reactants: (L, d) integers, how many of each species a reaction needs; default what it takes
                away, so that it needs to be given for catalysts: "S + I -> 2 I" needs an I.

        Raises:
            ValueError, TypeError: as the constructor; arrays that are not integers (L, d), a reaction that
                takes away more than its reactants.
        """
        names = _species(species)
        added = _integers("change", change, len(names))
        needed = np.maximum(-added, 0) if reactants is None else _integers("reactants", reactants, len(names))
        if needed.shape != added.shape:
            raise ValueError(f"reactants must have the shape {added.shape} of change, got {needed.shape}")
        if np.any(needed < 0):
            raise ValueError(f"reactants must be >= 0, got {needed.min()}")
        if np.any(needed + added < 0):
            i, j = (int(v) for v in np.argwhere(needed + added < 0)[0])
            raise ValueError(
                f"change: reaction {i} takes {-added[i, j]} of {names[j]!r}, but has {needed[i, j]} of it as "
                "reactants; its count would become negative"
            )
        listed = list(rates)
        if len(listed) != len(added):
            raise ValueError(f"rates must have one entry per reaction ({len(added)}), got {len(listed)}")
        network = cls.__new__(cls)
        rows = lambda array: [tuple(row) for row in array.tolist()]
        network._set(rows(needed), rows(needed + added), listed, names, breaks, counters)
        return network

    def _checked_counters(self, counters: Sequence[str], texts: list[str]) -> tuple[str, ...]:
        if isinstance(counters, str):
            raise TypeError(f"counters must be a list of species, got {counters!r}")
        for name in counters:
            if name not in self.species:
                raise ValueError(f"counters: {name!r} is not a species; the species are {list(self.species)}")
            k = self.species.index(name)
            for text, needs in zip(texts, self.reactants, strict=True):
                if needs[k]:
                    raise ValueError(f"counters: {text!r} needs {name!r}, but counters only count")
            if not any(row[k] for row in self.change):
                raise ValueError(f"counters: no reaction adds to {name!r}")
        return tuple(counters)

    def __repr__(self) -> str:
        return f"ReactionNetwork({'; '.join(self.reactions)}; species {', '.join(self.species)})"

    def _number(self, text: str, rate: Any) -> Any:
        if isinstance(rate, str):
            raise TypeError(
                f"the rate of {text!r} must be a number or a propensity (x) -> rate, got {rate!r}"
            )
        value = np.asarray(rate) if isinstance(rate, list | tuple) and is_concrete_all(rate) else rate
        value = jnp.asarray(value) if isinstance(value, list | tuple) else value
        shape = tuple(np.shape(value))
        if is_concrete(value):
            try:
                number = np.asarray(value, dtype=float)
            except (TypeError, ValueError):
                raise TypeError(
                    f"the rate of {text!r} must be a number or a propensity (x) -> rate, got {rate!r}"
                ) from None
            if not np.all(np.isfinite(number)) or np.any(number < 0):
                raise ValueError(f"the rate of {text!r} must be finite and >= 0, got {rate}")
        if shape != () and (not self.breaks or shape != (self.n_pieces,)):
            wanted = f"a scalar or {self.n_pieces} pieces" if self.breaks else "a scalar (or give breaks)"
            raise ValueError(f"the rate of {text!r} must be {wanted}, got shape {shape}")
        return value

    def _reads_time(self, text: str, function: Callable) -> bool:
        """Whether a user's propensity is a function of (t, x), or of (x); raises for what is neither."""
        n = _n_arguments(text, function)
        if n == 2 and not self.breaks:
            raise ValueError(
                f"the propensity of {text!r} takes (t, x), but there are no breaks; propensities are held "
                "constant between breaks, give breaks that are as dense as needed"
            )
        scalar = jax.ShapeDtypeStruct((), jnp.result_type(float))
        try:
            result = jax.eval_shape(
                lambda t, *x: _call(function, n == 2, t, Counts(x, self.species)),
                scalar,
                *[scalar] * len(self.species),
            )
        except KeyError as error:
            raise ValueError(f"the propensity of {text!r}: {error.args[0]}") from error
        if not hasattr(result, "shape") or not hasattr(result, "dtype"):
            raise TypeError(f"the propensity of {text!r} must return a number, got {type(result).__name__}")
        if result.shape != ():
            raise ValueError(f"the propensity of {text!r} must return a scalar, got shape {result.shape}")
        return n == 2

    @property
    def state(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.n_species,), jnp.int32)

    @property
    def n_species(self) -> int:
        return len(self.species)

    @property
    def dim(self) -> int:
        """Number of coordinates of a state, the species."""
        return self.n_species

    @property
    def n_reactions(self) -> int:
        return len(self.reactions)

    @property
    def n_pieces(self) -> int:
        return len(self.breaks) + 1

    @property
    def stoichiometry(self) -> np.ndarray:
        """What each reaction adds to each species, (L, d) int32."""
        return np.asarray(self.change, np.int32).reshape(self.n_reactions, self.n_species)

    @property
    def carried(self) -> np.ndarray:
        """Which species keep their counts from edge to edge, (d,); counters do not."""
        return np.array([name not in self.counters for name in self.species])

    @property
    def conservation_laws(self) -> np.ndarray:
        """Weights (m, d) whose products with the state no reaction changes, non-negative where possible.

        Counters, which begin anew, are in none of them.
        """
        own = conservation_laws(self.stoichiometry[:, self.carried].astype(np.int64))
        laws = np.zeros((len(own), self.n_species), np.int64)
        laws[:, self.carried] = own
        return laws

    @property
    def mass_action(self) -> tuple[bool, ...]:
        """Which reactions have mass-action propensities, (L,)."""
        return tuple(function is None for function in self.functions)

    def view(self, state: Array) -> Counts:
        """The state as likelihoods see it: counts by name or position."""
        return Counts(state, self.species)

    def piece(self, time: Any) -> Array:
        """Which piece of the rates holds from a time on; at a break it is the piece that begins."""
        return jnp.sum(jnp.asarray(self.breaks) <= jnp.asarray(time)[..., None], axis=-1)

    def constants(self, piece: Any) -> tuple:
        """What does not depend on the counts in one piece, a scalar per reaction.

        The rate constant of a mass-action reaction; the time that the propensity reads, or zero.
        """
        dtype = jnp.result_type(float)
        now = jnp.zeros((), dtype)
        if self.breaks and any(self.reads_time):
            now = jnp.asarray(self.breaks, dtype)[jnp.maximum(piece - 1, 0)]
        found = []
        for rate in self.rates:
            value = now if rate is None else jnp.asarray(rate, dtype)
            found.append(value[piece] if value.ndim else value)
        return tuple(found)

    def propensities_from(self, constants: tuple, counts: Sequence[Array]) -> tuple:
        """Propensities, one scalar per reaction, from `constants` and one count per species.

        This is what simulators call within their loops: it holds scalars only, so that `jax.vmap` makes
        one fused program of it.
        """
        dtype = jnp.result_type(float)
        x = [jnp.asarray(count).astype(dtype) for count in counts]
        named, found = Counts(x, self.species), []
        for i, (function, rate) in enumerate(zip(self.functions, constants, strict=True)):
            if function is not None:
                value = _call(function, self.reads_time[i], rate, named)
                found.append(jnp.asarray(value, dtype))
                continue
            for count, needed in zip(x, self.reactants[i], strict=True):
                for k in range(needed):
                    rate = rate * (count - k) / (k + 1) if k else rate * count
            found.append(rate)
        return tuple(found)

    def valid(self, propensities: Sequence[Array], counts: Sequence[Array]) -> Array:
        """Whether all propensities are finite and >= 0, and positive only where the reactants are there."""
        ok = reduce(jnp.add, propensities) < jnp.inf
        for rate, function, needs in zip(propensities, self.functions, self.reactants, strict=True):
            ok = ok & (rate >= 0)
            if function is not None:
                for count, needed in zip(counts, needs, strict=True):
                    if needed:
                        ok = ok & ((rate <= 0) | (count >= needed))
        return ok

    def propensities(self, t: Any, x: Any) -> Array:
        """Rates (L,) of all reactions in state x (d,) at time t (a scalar)."""
        return jnp.stack(self.propensities_from(self.constants(self.piece(t)), list(jnp.asarray(x))))

    def fault(self, t: float, x: Any) -> str | None:
        """Words for the first propensity that is not one in state x at time t; None where all are right."""
        state = np.asarray(x)
        where = ", ".join(f"{name}={count}" for name, count in zip(self.species, state, strict=True))
        where = f"in the state {where} at time {float(t):g}"
        for number, rate in enumerate(np.asarray(self.propensities(t, state))):
            text = self.reactions[number]
            if not np.isfinite(rate) or rate < 0:
                return f"the propensity of {text!r} must be finite and >= 0, got {rate:g} {where}"
            if rate > 0 and np.any(state < self.reactants[number]):
                needed = "must be zero where its reactants are not there"
                return f"the propensity of {text!r} {needed}, got {rate:g} {where}"
        return None

    def known_state(self, name: str, value: Any) -> Any:
        """Counts (d,) int32 from a sequence of counts, or from counts by the name of every species.

        Raises:
            ValueError, TypeError: a species that is unknown or absent, counts that are not integers >= 0.
        """
        expected = f"counts of the species {', '.join(self.species)}"
        if isinstance(value, Mapping):
            for key in value:
                if key not in self.species:
                    raise ValueError(
                        f"{name} has the unknown species {key!r}; the species are {list(self.species)}"
                    )
            absent = [key for key in self.species if key not in value and key not in self.counters]
            if absent:
                raise ValueError(f"{name} has no count of {absent[0]!r}; expected {expected}")
            value = [value.get(key, 0) for key in self.species]
        if isinstance(value, str) or value is None or callable(value):
            raise TypeError(f"{name} must be {expected}, got {value!r}")
        if not is_concrete_all(value):
            value = jnp.stack([jnp.asarray(v) for v in value]) if isinstance(value, list | tuple) else value
            if np.shape(value) != (self.n_species,):
                raise ValueError(f"{name} must have shape ({self.n_species},), got {np.shape(value)}")
            return value.astype(jnp.int32)
        try:
            array = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be {expected}, got {value!r}") from None
        if array.shape != (self.n_species,):
            raise ValueError(f"{name} must be {expected}, got shape {array.shape}")
        self.check_counts(name, array)
        if np.any(array[~self.carried]):
            counter = self.species[int(np.argmax(~self.carried & (array > 0)))]
            raise ValueError(f"{name}: the counter {counter!r} has counted nothing yet, and must be 0")
        return array.astype(np.int32)

    def check_law(self, name: str, law: Any) -> None:
        """Raise ValueError unless a Distribution is discrete, with events of shape (d,)."""
        shape = tuple(law.batch_shape), tuple(law.event_shape)
        if shape != ((), (self.n_species,)):
            raise ValueError(
                f"{name} must be a Distribution with event shape ({self.n_species},), one count for each of "
                f"{', '.join(self.species)}, got {type(law).__name__} with batch shape {shape[0]} and event "
                f"shape {shape[1]}; see to_event(1)"
            )
        if not law.is_discrete:
            raise ValueError(f"{name} must be a Distribution of counts, got {type(law).__name__}")

    def check_exact(self, name: str, values: Any) -> None:
        if is_concrete(values):
            array = np.asarray(values, dtype=float)
            self.check_counts(name, np.where(np.isnan(array), 0.0, array))

    def check_counts(self, name: str, values: Any) -> None:
        """Raise ValueError unless concrete values (..., d) are integers >= 0."""
        array = np.asarray(values, dtype=float)
        wrong = ~((array >= 0) & (array <= LARGEST_COUNT) & (array == np.floor(array)))
        if np.any(wrong):
            where = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name} must hold integers from 0 to 2^30, got {array[where]:g} for the species "
                f"{self.species[where[-1]]!r}"
            )

    def reachable(
        self, initial: Any, *, bounds: Any = None, total: int | None = None, max_states: int = 20_000
    ) -> Reachable:
        """The states that can be reached from an initial state, and the reactions between them.

        Args:
            initial: counts (d,), or by name. bounds: largest counts, by name of a species or (d,).
            total: largest sum of all counts. max_states: more states than this are refused.

        Raises:
            ValueError: an initial state outside of the bounds, or more than `max_states` states; a network
                with counters, which is no process on states alone.
        """
        if self.counters:
            raise ValueError(
                f"reachable: the counter {self.counters[0]!r} begins anew at every node, so that "
                "the network is no jump process on its states"
            )
        start = np.asarray(self.known_state("initial", initial), np.int64)
        upper = np.full(self.n_species, np.inf)
        if isinstance(bounds, Mapping):
            for key, value in bounds.items():
                if key not in self.species:
                    raise ValueError(f"bounds: unknown species {key!r}; the species are {list(self.species)}")
                upper[self.species.index(key)] = value
        elif bounds is not None:
            upper = np.asarray(bounds, float)
            if upper.shape != (self.n_species,):
                raise ValueError(f"bounds must have shape ({self.n_species},), got {upper.shape}")
        most = np.inf if total is None else total
        if np.any(start > upper) or start.sum() > most:
            raise ValueError(f"initial: {start.tolist()} is outside of the bounds")
        needs = np.asarray(self.reactants, np.int64).reshape(self.n_reactions, self.n_species)
        return reachable_states(start, needs, self.stoichiometry.astype(np.int64), upper, most, max_states)

    def truncated(
        self, initial: Any, *, bounds: Any = None, total: int | None = None, max_states: int = 2000
    ) -> tuple[MarkovJump, np.ndarray]:
        """The network as a Markov jump process on the states that it reaches within bounds.

        What leaves the bounds goes to an absorbing state, labelled "outside". Probabilities of states
        inside are thus lower bounds, and what is outside is the error (finite state projection; Munsky and
        Khammash 2006, J. Chem. Phys. 124:044104). Without it the process is exact.

        Args:
            initial, bounds, total, max_states: as for `reachable`; the generator is a dense matrix.

        Returns:
            the process, whose states are labelled by tuples of counts, and these counts (n, d).
        """
        found = self.reachable(initial, bounds=bounds, total=total, max_states=max_states)
        labels: list = [tuple(state) for state in found.states.tolist()]
        leaves = bool(np.any(found.target == len(labels)))
        process = MarkovJump(self.generator(found), labels + ["outside"] * leaves, breaks=self.breaks)
        return process, found.states

    def generator(self, found: Reachable) -> Array:
        """Rates (n, n) between the states that can be reached, (pieces, n, n) where rates change in time.

        With one state more, the last, where reactions lead outside of the bounds. The diagonal is zero.
        """
        n = len(found.states)
        size = n + bool(np.any(found.target == n))
        columns = tuple(jnp.asarray(found.states).T)
        pieces = []
        for piece in range(self.n_pieces):
            constants = self.constants(piece)
            rates = jax.vmap(lambda *x, c=constants: jnp.stack(self.propensities_from(c, x)))(*columns)
            matrix = jnp.zeros((size, size), rates.dtype)
            pieces.append(matrix.at[found.source, found.target].add(rates[found.source, found.reaction]))
        return jnp.stack(pieces) if self.breaks else pieces[0]


def _call(function: Callable, reads_time: bool, time: Any, counts: Counts) -> Any:
    return function(time, counts) if reads_time else function(counts)


def is_concrete_all(value: Any) -> bool:
    """Whether a value, or every entry of a list or tuple of values, is known now."""
    if isinstance(value, list | tuple):
        return all(is_concrete_all(entry) for entry in value)
    return is_concrete(value)


def _pairs(reactions: Any) -> list[tuple[str, Any]]:
    if isinstance(reactions, str | Mapping) or not isinstance(reactions, Sequence):
        raise TypeError(
            f"reactions must be a list of pairs ('S + I -> 2 I', rate), got {type(reactions).__name__}"
        )
    if not len(reactions):
        raise ValueError("reactions must hold at least one pair ('S + I -> 2 I', rate), got none")
    for pair in reactions:
        if not (isinstance(pair, list | tuple) and len(pair) == 2):
            raise TypeError(f"reactions must hold pairs ('S + I -> 2 I', rate), got {pair!r}")
    return [(pair[0], pair[1]) for pair in reactions]


def _species(species: Any) -> tuple[str, ...]:
    names = check_labels("species", species)
    for name in names:
        if not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(
                f"species must be named by letters, digits and underscores, not starting with a digit, got "
                f"{name!r}"
            )
    if not names:
        raise ValueError("species must hold at least one name, got none")
    return names


def _integers(name: str, value: Any, n_species: int) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold integers, in rows of equal length, got {value!r}") from None
    if array.ndim != 2 or array.shape[1] != n_species or not len(array):
        raise ValueError(f"{name} must have shape (reactions, {n_species}), got {array.shape}")
    if not np.all(array == np.floor(array)):
        raise ValueError(f"{name} must hold integers, got {array[array != np.floor(array)][0]:g}")
    return array.astype(np.int64)


def _text(species: tuple, needs: Sequence[int], gives: Sequence[int]) -> str:
    side = lambda row: {name: int(n) for name, n in zip(species, row, strict=True) if n}
    return str(Reaction(side(needs), side(gives)))


def _n_arguments(text: str, function: Callable) -> int:
    required = required_arguments(function)
    if required is None or required in (1, 2):
        return required or 1
    raise TypeError(
        f"the propensity of {text!r} must take (x) or (t, x), got a function of {required} arguments"
    )
