"""Small systems of interacting particles solved on all K^n configurations, in NumPy, without mjp."""

import itertools

import numpy as np


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
        forward = [start * seen[0]]
        for t in range(1, times):
            forward.append((forward[-1] @ matrix) * seen[t])
        backward = [np.ones(size)]
        for t in range(times - 1, 0, -1):
            backward.insert(0, matrix @ (seen[t] * backward[0]))
        self.log_evidence = np.log(forward[-1].sum())
        joint = np.array(forward) * np.array(backward)
        self.smoothed = joint / joint.sum(axis=1, keepdims=True)

    def probability(self, time, event):
        """Posterior probability that an event, a function of a configuration, happens at a time."""
        return sum(self.smoothed[time][[bool(event(c)) for c in self.configurations]])


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
