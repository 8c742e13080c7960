"""A benchmark's figures as a committed file, with what it takes to judge and to repeat them."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from semdefect.atomic import write_json

RESULTS = Path("benchmarks/results")
PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy", "timm", "torch")


def write_result(name: str, figures: dict[str, Any]) -> Path:
    """Write ``figures`` with command, commit and environment to ``benchmarks/results/<name>.json``; its path."""
    path = RESULTS / f"{name}.json"
    about = {"command": _command(), "commit": _commit(), "environment": _environment()}
    write_json(path, figures | about)
    return path


def _command() -> str:
    spec = sys.modules["__main__"].__spec__
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    return " ".join([program, *sys.argv[1:]])


def _commit() -> str:
    """The commit the code is of, with ``-dirty`` when files differ from it; empty outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _environment() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
