"""Silicon with what comes out of one kernel changed: hardware with another layout, or with none."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from attnprobe.backends import Dump, Launch
from tests.probing.silicon import Silicon


class Changed:
    """Silicon with what comes out of one kernel changed."""

    name, cc = "gpu", 90

    def __init__(self, entry: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.entry, self.change, self.true = entry, change, Silicon()

    def environment(self) -> dict[str, str]:
        return self.true.environment()

    def run(self, launch: Launch) -> Dump:
        dump = self.true.run(launch)
        if launch.entry != self.entry:
            return dump
        return replace(dump, arrays=tuple(self.change(array) for array in dump.arrays))


def swapped_lanes(array: np.ndarray) -> np.ndarray:
    """Lanes 1 and 2 exchange what they hold: no digits give that."""
    lanes = np.arange(array.shape[-1])
    lanes[[1, 2]] = 2, 1
    return array[..., lanes]
