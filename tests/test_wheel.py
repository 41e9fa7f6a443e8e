"""The built wheel holds what the installed package needs: the sample and the trained model."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Names of the wheel's files, built from a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "jiadf", copy / "jiadf", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "LICENSES"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, copy)
    code = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", code], cwd=copy, check=True, capture_output=True)
    (wheel,) = (copy / "dist").glob("jiadf-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_sample(members):
    sample = "jiadf/data/sample/"
    assert f"{sample}MILK10k_Training_Metadata.csv" in members
    assert f"{sample}MILK10k_Training_GroundTruth.csv" in members
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / sample).rglob("*") if path.is_file()}
    assert ours - members == set()


@pytest.mark.parametrize(
    "name", ["config.yaml", "encoder.json", "digests.json", "metrics.json", "model.safetensors"]
)
def test_the_wheel_holds_the_trained_model(members, name):
    assert f"jiadf/pretrained/{name}" in members
