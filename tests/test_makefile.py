"""The Makefile: the Python that it takes, the locks that it removes, the packages that it pins."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="needs make")


def make(folder, *arguments, **environment):
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=os.environ | environment, text=True,
        capture_output=True, check=True,
    ).stdout  # fmt: skip


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and an environment whose snakemake writes down what it is told."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-build.lock"):
        shutil.copy(ROOT / name, tmp_path)
    told = 'echo "$@" >> told; case "$1" in --unlock) rm -r .snakemake/locks;; esac'
    script(tmp_path / ".venv/bin/snakemake", told)
    (tmp_path / ".venv/.installed").touch()
    return tmp_path


def test_the_first_interpreter_that_starts_is_taken(tmp_path):
    script(tmp_path / "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    script(tmp_path / "python3.12", f'exec {sys.executable} "$@"')
    shutil.copy(ROOT / "Makefile", tmp_path)
    path = f"{tmp_path}:/usr/bin:/bin"
    show = ["-s", "--eval", "show: ; @echo $(PYTHON)", "show"]
    assert make(tmp_path, *show, PATH=path).split() == ["python3.12"]


@pytest.mark.parametrize(("process", "unlocked"), [("gone", True), ("alive", False)])
def test_locks_of_a_process_that_is_gone_are_removed_and_it_is_said(checkout, process, unlocked):
    locks = checkout / ".snakemake/locks"
    locks.mkdir(parents=True)
    (locks / "0.input.lock").touch()
    ended = subprocess.Popen(["true"])
    ended.wait()
    number = ended.pid if process == "gone" else os.getpid()
    (checkout / ".snakemake/make_book.pid").write_text(f"{number}\n")
    said = make(checkout, "book")
    told = (checkout / "told").read_text().splitlines()
    assert told[-1].startswith("--cores")
    assert (told[0] == "--unlock --quiet") == unlocked == locks.is_dir() ^ True
    assert (f"process {number} is gone" in said) == unlocked
    assert not (checkout / ".snakemake/make_book.pid").exists()


def test_a_killed_build_is_remembered(checkout):
    script(checkout / ".venv/bin/snakemake", "kill -9 $$")
    with pytest.raises(subprocess.CalledProcessError):
        make(checkout, "book")
    assert (checkout / ".snakemake/make_book.pid").read_text().strip().isdecimal()


def test_every_locked_package_has_a_hash_and_so_has_what_builds():
    locked = {}
    for name in ("requirements.lock", "requirements-build.lock"):
        entries = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
        assert all("--hash=sha256:" in entry for entry in entries)
        locked[name] = dict(entry.split()[0].split("==") for entry in entries)
    builds, all_of_it = locked["requirements-build.lock"], locked["requirements.lock"]
    assert all(all_of_it.get(name, version) == version for name, version in builds.items())
    # zipfile-deflate64, which has no wheel, takes its version from it.
    assert "setuptools-scm" in builds
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = dict(one.split("==") for one in project["build-system"]["requires"])
    assert wanted.items() <= builds.items()
