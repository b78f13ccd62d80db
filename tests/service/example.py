"""The example package of `examples/spirals`, installed as a person would."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

SPIRALS = Path(__file__).resolve().parents[2] / "examples" / "spirals"


def install_spirals(folder: Path) -> Path:
    """Install the example into `folder / "site"`, by pip and from a copy of its folder; return that for PYTHONPATH."""
    unwanted = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(SPIRALS, folder / "source", ignore=unwanted)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "site", "."], cwd=folder / "source", check=True, capture_output=True)
    return folder / "site"
