"""Named streams of random numbers: `(seed, phase, epoch, what, index)` gives the draw, and nothing else does.

A draw is a pure function of its name, so it does not depend on the number of workers, on what ran before in
the process, or on which other techniques are on. Two forms are offered: a vectorized hash (SplitMix64,
Steele, Lea & Flood, OOPSLA 2014) for the many uniforms of per-item augmentation, and numpy's Philox
counter-based generator (Salmon et al., SC 2011) for everything that needs a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer: uint64 of any shape in, well-mixed uint64 of the same shape out."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True)
class Streams:
    """All random streams of one phase of one trial.

    Args:
        seed: The trial's seed.
        phase: The phase's name; empty for what belongs to the whole trial, such as the initial weights.
        salt: Extra text that gives entirely different streams (the `reseed` control).
    """

    seed: int
    phase: str = ""
    salt: str = ""

    def _digest(self, what: str, epoch: int) -> bytes:
        name = f"{self.seed}\x1f{self.salt}\x1f{self.phase}\x1f{epoch}\x1f{what}"
        return blake2b(name.encode(), digest_size=16).digest()

    def uniforms(self, what: str, epoch: int, indices: np.ndarray, count: int) -> np.ndarray:
        """Independent uniforms in [0, 1) for many items at once.

        Args:
            what: The stream's name, such as `augment`.
            epoch: The epoch, from 0.
            indices: The items' numbers, shape (n,).
            count: How many draws each item gets.

        Returns:
            float64 array of shape (n, count); row i depends on `indices[i]` alone.
        """
        key = np.frombuffer(self._digest(what, epoch)[:8], dtype=np.uint64)[0]
        with np.errstate(over="ignore"):
            items = _mix(key ^ _mix(np.asarray(indices, dtype=np.uint64) + _GOLDEN))
            columns = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
            bits = _mix(items[:, None] + columns[None, :])
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def generator(self, what: str, epoch: int = 0, index: int = 0) -> np.random.Generator:
        """A numpy generator of its own for one index of a stream, such as one batch of `mix`."""
        key = int.from_bytes(self._digest(what, epoch), "little")
        return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, 0]))

    def integer(self, what: str, epoch: int = 0, index: int = 0) -> int:
        """A non-negative 63-bit integer, to seed a generator that is not ours (torch's, Python's)."""
        key = np.frombuffer(self._digest(what, epoch)[:8], dtype=np.uint64)
        with np.errstate(over="ignore"):
            return int(_mix(key ^ _mix(np.array([index], dtype=np.uint64) + _GOLDEN))[0] >> np.uint64(1))
