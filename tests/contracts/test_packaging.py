"""What is imported is this checkout, and the wheel holds the packages and nothing else."""

import importlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sae", "training", "analysis")
SHIPPED = (*PACKAGES, "scripts")
DATA = (".html", ".css")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_imported_package_is_the_checkouts(name):
    assert Path(importlib.import_module(name).__file__ or "").parent == ROOT / name


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_carry_their_types(name):
    assert (ROOT / name / "py.typed").is_file()


def test_every_folder_with_code_is_a_package():
    folders = {path.parent for name in SHIPPED for path in (ROOT / name).rglob("*.py")}
    assert [str(each) for each in folders if not (each / "__init__.py").is_file()] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of this checkout, built without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
    for name in (*SHIPPED, "tests", "docs", "notebooks", "benchmarks"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=skip)
    (source / "sae_old").mkdir()
    (source / "sae_old" / "__init__.py").touch()
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(out)!r})"
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:setuptools", "-c", code],
        cwd=source,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = [each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in each]
    files = [path for name in SHIPPED for path in (ROOT / name).rglob("*") if path.is_file()]
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in (".py", *DATA) or path.name == "py.typed"
    }
    assert set(names) == {each for each in wanted if "__pycache__" not in each}


def test_the_wheel_names_version_license_and_python(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(each for each in archive.namelist() if each.endswith("METADATA"))
    metadata = archive.read(name).decode()
    version = importlib.import_module("sae").__version__
    for line in ("Name: forelimb", f"Version: {version}", "Requires-Python: >=3.11"):
        assert line in metadata.splitlines()
    assert "License: MIT" in metadata or "License-Expression: MIT" in metadata


def test_pins_cover_every_dependency_once():
    pins = [
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert len(pins) == len(set(pins))
    assert pins == sorted(pins)
    config = (ROOT / "setup.cfg").read_text()
    asked = config.partition("install_requires =\n")[2].partition("\n\n")[0]
    asked += "\n" + config.partition("dev =\n")[2].partition("\n\n")[0]
    names = {line.strip().partition(">")[0].partition("[")[0] for line in asked.splitlines()}
    assert names - set(pins) == set()
