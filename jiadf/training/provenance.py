"""Say where something was made: versions of packages, the device, the code's commit."""

import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    *("jiadf", "torch", "torchvision", "timm"),
    *("accelerate", "numpy", "pandas", "scikit-learn"),
)


def environment(
    device: str, precision: str, fingerprint: dict[str, str], seconds: float
) -> dict[str, Any]:
    """Describe where a run was made; ``seconds`` is its wall time over all its sessions."""
    return {
        "packages": package_versions(PACKAGES),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "CPU",
        "precision": precision,
        "threads": torch.get_num_threads(),
        "data": fingerprint,
        "git_commit": git_commit(),
        "seconds": round(seconds, 1),
    }


def package_versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Version of each installed package, None for those that are not there."""
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def git_commit() -> str | None:
    """Commit of the code in use, with ``+changes`` if the tree differs; None outside a checkout.

    Installed below somebody else's repository, the code has no commit: git must know this file.
    """
    folder = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "-uno")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
