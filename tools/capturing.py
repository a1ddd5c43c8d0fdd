"""What the tools that write a data set of real Q, K, V have in common: write it, or check it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Charles Darwin, On the Origin of Species (London: John Murray, 1859), first lines of the
# Introduction. In the public domain.
PARAGRAPH = (
    "When on board H.M.S. 'Beagle,' as naturalist, I was much struck with certain facts in the "
    "distribution of the inhabitants of South America, and in the geological relations of the "
    "present to the past inhabitants of that continent. These facts seemed to me to throw some "
    "light on the origin of species—that mystery of mysteries, as it has been called by one of our "
    "greatest philosophers. On my return home, it occurred to me, in 1837, that something might "
    "perhaps be made out on this question by patiently accumulating and reflecting on all sorts of "
    "facts which could possibly have any bearing on it."
)
# Another BLAS may round a few values to the neighbouring fp16 number.
TOLERANCE = 2e-3

Arrays = Mapping[str, npt.NDArray[Any]]


def main(
    says: str,
    member: Path,
    output: Path,
    capture: Callable[[Path], Arrays],
    argv: Sequence[str] | None = None,
) -> int:
    """Write the data set, or check it; return the exit code.

    Parameters
    ----------
    says : the tool's description.
    member : the model file within pip's --target folder.
    output : the data set.
    capture : path of the model file -> the arrays of the data set.
    """
    parser = argparse.ArgumentParser(
        description=says, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--package", type=Path, required=True, help="pip's --target folder")
    parser.add_argument("--check", action="store_true", help="compare with the kept file instead")
    arguments = parser.parse_args(argv)
    arrays = capture(arguments.package / member)
    if not arguments.check:
        output.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(output, **dict(arrays))
        print(f"wrote {output.name}: {output.stat().st_size / 1024:.0f} KiB")
        return 0
    with np.load(output) as kept:
        same = set(kept.files) == set(arrays) and all(
            np.allclose(kept[n].astype(float), a.astype(float), rtol=TOLERANCE, atol=TOLERANCE)
            for n, a in arrays.items()
        )
    print("the kept file agrees" if same else "the kept file DIFFERS")
    return 0 if same else 1
