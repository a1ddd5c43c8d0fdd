"""The wheel and the sdist: what is in them, and that an installed copy needs no checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="builds the wheel; comes with the extra 'test'")

ROOT = Path(__file__).resolve().parent.parent
IGNORED = {"__pycache__", ".gitkeep"}


def run(*args: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *args], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run("-m", "hatchling", "build", "-d", str(folder), cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel_names(built: Path) -> set[str]:
    (wheel,) = built.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that the wheel was installed into, without its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    (wheel,) = built.glob("*.whl")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile")
    run(*pip, "--disable-pip-version-check", "--target", str(folder), str(wheel), cwd=folder)
    return folder


def shipped(folder: str) -> set[str]:
    """Return the files of a folder of the checkout, relative to the checkout."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not IGNORED & set(path.parts)
    }


def test_the_wheel_has_one_package_at_its_top(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"attnprobe"}


@pytest.mark.parametrize("folder", ["kernels", "probes"])
def test_the_wheel_has_every_data_file_inside_the_package(
    folder: str, wheel_names: set[str]
) -> None:
    inside = {name for name in wheel_names if name.startswith(f"attnprobe/{folder}/")}
    assert inside == {f"attnprobe/{name}" for name in shipped(folder)}
    assert inside


def test_the_wheel_has_every_module_and_the_type_marker(wheel_names: set[str]) -> None:
    kinds = (".py", ".typed", ".npz", ".css", ".js")
    modules = {name for name in shipped("attnprobe") if name.endswith(kinds)}
    assert "attnprobe/py.typed" in modules
    assert modules - wheel_names == set()


def test_no_folder_of_the_source_tree_hides_the_shipped_data() -> None:
    assert not (ROOT / "attnprobe" / "kernels").exists()
    assert not (ROOT / "attnprobe" / "probes").exists()


def test_the_sdist_has_what_is_needed_to_test_it(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("attnprobe", "kernels", "probes", "tests", "tools", "docs"):
        assert shipped(folder) - names == set()
    assert {"pyproject.toml", "Makefile", "README.md", "LICENSE"} <= names


def test_an_installed_copy_finds_its_data_inside_the_package(installed: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from attnprobe._paths import data_dir\n"
        "from attnprobe.compile import load_source\n"
        "print(data_dir('kernels'), data_dir('probes'), sep='\\n')\n"
        "print(len(load_source('ptx/mma.cuh').text) > 100)"
    )
    kernels, probes, loaded = run("-c", code, str(installed), cwd=installed).splitlines()
    assert Path(kernels) == installed / "attnprobe" / "kernels"
    assert Path(probes) == installed / "attnprobe" / "probes"
    assert loaded == "True"


def test_an_installed_copy_runs_the_command(installed: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import attnprobe.cli; print(attnprobe.cli.__file__)\n"
        "sys.exit(attnprobe.cli.main(['layout', 'list', 'ldmatrix', 'm8n8.x4.trans', '--csv']))"
    )
    where, _, listed = run("-c", code, str(installed), cwd=installed).splitlines()
    assert Path(where).is_relative_to(installed)
    assert listed.startswith("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16,")
    assert (installed / "bin" / "attnprobe").is_file()


def test_a_checkout_finds_its_data_beside_the_package() -> None:
    from attnprobe import _paths

    assert _paths.data_dir("kernels").is_dir()
    assert {path.name for path in _paths.data_dir("probes").glob("*.toml")}


def test_missing_data_is_an_error_that_says_what_is_missing() -> None:
    from attnprobe import _paths

    with pytest.raises(FileNotFoundError, match=r"'no-such-data' is neither in .* nor beside it"):
        _paths.data_dir("no-such-data")
