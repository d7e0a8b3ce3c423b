r"""The density of the paths of agents in continuous time.

With respect to unit-rate Poisson processes it is $\prod_i \pi_i(x_i(0)) \prod_{\text{jumps of } i}
q_i(a, b; N_i(t-)) \exp(\int q_i(x_i, x_i; N_i) dt)$. The rates of agent i change when it jumps, and when one
of its neighbours does: all changes are rows of one long table, sorted by agent and time, in which the numbers
of neighbours are cumulative sums.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from mjp.inference.agent_jumps import count_until, ends, inner_times, parameters, process_of
from mjp.inference.jump_buffers import unpack
from mjp.inference.particle_chain import ParticleChain, select


def log_density(model: ParticleChain, value: Array) -> Array:
    """Log-density () of paths (N, J + 1, 2), first states included."""
    times, states = unpack(value)
    (n, j), k = times.shape, model.k
    start, end = ends(model)
    contacts, counted = model.static.contacts, list(model.process.influential)
    sources, targets, strengths = contacts.sources, contacts.targets, contacts.strengths()
    varies = any(value.shape[0] > 1 for value in parameters(model).values())
    inner = inner_times(model)[:, : None if varies else 0]
    f = inner.shape[1]

    # rows: the start of each agent, its jumps, those of its neighbours, and where parameters change
    agents = np.arange(n)
    owner = np.concatenate([agents, np.repeat(agents, j), np.repeat(targets, j), np.repeat(agents, f)])
    late = np.concatenate([np.zeros(n, np.int32), np.ones(len(owner) - n, np.int32)])  # starts come first
    flat = lambda *parts: jnp.concatenate([jnp.reshape(part, -1) for part in parts])
    when = flat(start, times, times[sources], inner)
    in_step = count_until(inner, times)
    step = flat(jnp.zeros(n, in_step.dtype), in_step, in_step[sources], jnp.tile(jnp.arange(1, f + 1), n))
    moves = states[:, 1:] - states[:, :-1]
    before = jnp.append(0, states[:-1, -1])  # where the rows of the agent before ended
    moves = flat(states[:, 0] - before, moves, jnp.zeros(len(sources) * j + n * f, moves.dtype))
    order = lax.sort((jnp.asarray(owner), jnp.asarray(late), when, jnp.arange(len(owner))), num_keys=3)[-1]

    first, last = (model.neighbours(states[:, i]).reshape(-1, k, n) for i in (0, -1))
    field = jnp.zeros((len(strengths), k, len(owner)), when.dtype)
    for s in counted:
        shift = first[:, s] - jnp.roll(last[:, s], 1, axis=-1).at[:, 0].set(0.0)
        entering = 1.0 * (states[:, 1:] == s) - (states[:, :-1] == s)
        by_edge = strengths[..., None] * entering[sources]
        rest = jnp.zeros((len(strengths), n * f))
        alone = jnp.zeros((len(strengths), n * j))
        changes = jnp.concatenate([shift, alone, by_edge.reshape(len(strengths), -1), rest], axis=1)
        field = field.at[:, s].set(jnp.maximum(jnp.cumsum(changes[:, order], axis=1), 0.0))

    owner, when, step, moves = jnp.asarray(owner)[order], when[order], step[order], moves[order]
    ahead = jnp.append(owner[1:], -1)
    spans = jnp.where(ahead == owner, jnp.append(when[1:], 0.0), end[owner]) - when
    state = jnp.cumsum(moves)
    at = {name: _of_rows(value, step, owner) for name, value in parameters(model).items()}
    rates = process_of(model).rates(field.reshape(-1, len(when)), at)
    staying = jnp.sum(select([rates[a][a] for a in range(k)], state) * spans)
    rate = select([select(row, state) for row in rates], state - moves)
    log_rate = jnp.where(rate > 0, jnp.log(jnp.where(rate > 0, rate, 1.0)), -jnp.inf)
    jumping = jnp.sum(jnp.where((moves != 0) & (order >= n), log_rate, 0.0))
    return jnp.sum(model.log_first(states[:, 0][None])) + jumping + staying


def _of_rows(value: Array, step: Array, owner: Array) -> Array:
    """A quantity (F or 1, N or 1) at the steps and agents of rows, (L,), or (1,) where it is constant."""
    if value.size == 1:
        return value.reshape(1)
    return value[step if value.shape[0] > 1 else 0, owner if value.shape[1] > 1 else 0]
