"""Small systems of interacting particles solved on all K^n configurations, in NumPy, without mjp."""

import itertools

import numpy as np
from scipy.linalg import expm


class Enumerated:
    """Probabilities of a system whose agents step independently given all states.

    Args:
        step: function of a configuration (n,) to the agents' probabilities (n, K) after the step.
        first: (n, K) law of the first states.
        likelihood: function of a time and a configuration.
        steps: between two of the times.
    """

    def __init__(self, n, k, step, first, times, likelihood, steps=1):
        self.configurations = np.array(list(itertools.product(range(k), repeat=n)))
        size = len(self.configurations)
        one = np.ones((size, size))
        for a, configuration in enumerate(self.configurations):
            rows = step(configuration)
            for i in range(n):
                one[a] *= rows[i][self.configurations[:, i]]
        matrix = np.linalg.matrix_power(one, steps)
        start = np.prod([first[i][self.configurations[:, i]] for i in range(n)], axis=0)
        seen = np.array([[likelihood(t, c) for c in self.configurations] for t in range(times)])
        self._solve(start, [matrix] * (times - 1), seen)

    def _solve(self, start, matrices, seen):
        forward = [start * seen[0]]
        for matrix, own in zip(matrices, seen[1:], strict=True):
            forward.append((forward[-1] @ matrix) * own)
        backward = [np.ones(len(start))]
        for matrix, own in zip(matrices[::-1], seen[:0:-1], strict=True):
            backward.insert(0, matrix @ (own * backward[0]))
        self.log_evidence = np.log(forward[-1].sum())
        joint = np.array(forward) * np.array(backward)
        self.smoothed = joint / joint.sum(axis=1, keepdims=True)

    def probability(self, time, event):
        """Posterior probability that an event, a function of a configuration, happens at a time."""
        return sum(self.smoothed[time][[bool(event(c)) for c in self.configurations]])


class EnumeratedInTime(Enumerated):
    """Probabilities of a system whose agents jump one at a time.

    Args:
        rates: function of a configuration (n,) and the number of the interval to rates (n, K) of entering
            each state, the diagonal being ignored. times: (T,).
    """

    def __init__(self, n, k, rates, first, times, likelihood):
        self.configurations = np.array(list(itertools.product(range(k), repeat=n)))
        size = len(self.configurations)
        index = {tuple(c): i for i, c in enumerate(self.configurations.tolist())}
        matrices = []
        for interval, duration in enumerate(np.diff(times)):
            generator = np.zeros((size, size))
            for a, configuration in enumerate(self.configurations.tolist()):
                into = rates(np.array(configuration), interval)
                for i, state in itertools.product(range(n), range(k)):
                    if state != configuration[i]:
                        other = (*configuration[:i], state, *configuration[i + 1 :])
                        generator[a, index[other]] += into[i, state]
            generator -= np.diag(generator.sum(axis=1))
            matrices.append(expm(generator * duration))
        start = np.prod([first[i][self.configurations[:, i]] for i in range(n)], axis=0)
        seen = np.array([[likelihood(t, c) for c in self.configurations] for t in range(len(times))])
        self._solve(start, matrices, seen)


def sirs_step(contacts, infection, recovery, waning, external, duration):
    """Probabilities of a step; `contacts[i, j]` is the weight with which j influences i."""
    p = lambda rate: 1.0 - np.exp(-rate * duration)

    def step(configuration):
        force = infection * (contacts @ (configuration == 1)) + external
        rows = np.zeros((len(configuration), 3))
        for i, state in enumerate(configuration):
            leaves = p((force[i], recovery, waning)[state])
            rows[i, state], rows[i, (state + 1) % 3] = 1.0 - leaves, leaves
        return rows

    return step
