"""What is trained: a two-layer perceptron that learns a seeded teacher's labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAMPLES, INPUTS, HIDDEN, CLASSES = 8192, 32, 64, 8
RATE, MOMENTUM = 0.1, 0.9

Vector = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs (n, 32) and their labels (n,)."""

    inputs: Vector
    labels: Labels


class Data:
    """All samples, and the order in which a run sees them: a fresh shuffle per epoch."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng([seed, 1])
        inputs = random.standard_normal((SAMPLES, INPUTS))
        teacher = random.standard_normal((INPUTS, CLASSES))
        self._all = Samples(inputs, np.argmax(inputs @ teacher, axis=1))
        self._seed = seed
        self._epoch = -1
        self._order: Labels = np.arange(0)

    def shard(self, position: int, batch: int, rank: int, world: int) -> Samples:
        """Take this rank's part of the `batch` samples that follow the `position` seen so far by all ranks."""
        first, last = position + batch * rank // world, position + batch * (rank + 1) // world
        index = np.array([self._at(sample) for sample in range(first, last)], dtype=np.int64)
        return Samples(self._all.inputs[index], self._all.labels[index])

    def _at(self, sample: int) -> int:
        epoch, offset = divmod(sample, SAMPLES)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self._seed, 2, epoch]).permutation(SAMPLES)
        return int(self._order[offset])


class Model:
    """The weights and SGD's momentum, both as one flat vector."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng([seed, 0])
        first = random.standard_normal((INPUTS, HIDDEN)) / np.sqrt(INPUTS)
        second = random.standard_normal((HIDDEN, CLASSES)) / np.sqrt(HIDDEN)
        self.weights: Vector = np.concatenate([first.ravel(), second.ravel()])
        self.momentum: Vector = np.zeros_like(self.weights)

    def gradient(self, samples: Samples) -> Vector:
        """Sum over the samples: the gradient of the cross-entropy, and as last element the loss."""
        first, second = self._layers()
        hidden = np.tanh(samples.inputs @ first)
        scores = hidden @ second
        scores -= scores.max(axis=1, keepdims=True)
        chance = np.exp(scores)
        chance /= chance.sum(axis=1, keepdims=True)
        rows = np.arange(len(samples.labels))
        loss = -np.log(chance[rows, samples.labels]).sum()
        chance[rows, samples.labels] -= 1.0
        back = (chance @ second.T) * (1.0 - hidden**2)
        return np.concatenate([(samples.inputs.T @ back).ravel(), (hidden.T @ chance).ravel(), [loss]])

    def descend(self, gradient: Vector) -> None:
        """Take one step of SGD against the mean gradient."""
        self.momentum = MOMENTUM * self.momentum + gradient
        self.weights = self.weights - RATE * self.momentum

    def _layers(self) -> tuple[Vector, Vector]:
        cut = INPUTS * HIDDEN
        return self.weights[:cut].reshape(INPUTS, HIDDEN), self.weights[cut:].reshape(HIDDEN, CLASSES)
