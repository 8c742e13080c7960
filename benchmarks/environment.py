"""How a benchmark starts and ends: its command line, and its figures as a committed file that can be judged."""

import argparse
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import semdefect
from semdefect.atomic import write_json
from semdefect.errors import UserError
from semdefect.stage import orderly

RESULTS = Path("benchmarks/results")
PACKAGES = ("numpy", "onnxruntime", "pillow", "scipy", "timm", "torch")


def write_result(name: str, figures: dict[str, Any]) -> Path:
    """Write ``figures`` with command, commit and environment to ``benchmarks/results/<name>.json``; its path."""
    path = RESULTS / f"{name}.json"
    about = {"command": _command(), "commit": COMMIT, "environment": _environment()}
    write_json(path, figures | about)
    return path


def plain_name(text: str) -> str:
    """``text``, for argparse, if it can be the name of a result file.

    Raises:
        argparse.ArgumentTypeError: it cannot.
    """
    if not re.fullmatch(r"\w[\w.=-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a name of letters, digits and _ . = -")
    return text


def write_if_whole(name: str, figures: dict[str, Any], whole: bool) -> None:
    """`write_result` of a ``whole`` run; one of fewer cases or of another seed leaves the committed file alone."""
    if whole:
        print(f"written to {write_result(name, figures)}")
    else:
        print(f"not written to {RESULTS / name}.json, which is for the run that --help describes")


def read_result(path: Path, *keys: str) -> dict[str, Any]:
    """What `write_result` wrote to ``path``, with at least these ``keys``.

    Raises:
        UserError: the file is missing, broken or of another benchmark.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in keys if key not in content]
    except FileNotFoundError:
        raise UserError(f"{path} is missing: restore it with git checkout, or measure again") from None
    except (ValueError, TypeError):
        raise UserError(f"{path} is broken: restore it with git checkout, or delete it and measure again") from None
    if missing:
        raise UserError(f"{path} has no {missing[0]}: restore it with git checkout, or delete it and measure again")
    return content


def _command() -> str:
    spec = sys.modules["__main__"].__spec__
    program = f"python -m {spec.name}" if spec else Path(sys.argv[0]).name
    # Where a folder lies on this machine tells a reader nothing.
    words = [f".../{Path(word).name}" if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return f"{program} {shlex.join(words)}".rstrip()


def code_hash() -> str:
    """Hash of the sources of package and stages, the package's weights, and the versions of what decides figures."""
    digest = hashlib.sha256(str([version(package) for package in PACKAGES]).encode())
    package = Path(semdefect.__file__).parent
    stages = package.parent / "stages"
    for file in sorted([*package.rglob("*.py"), *package.glob("weights/*"), *stages.glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def require_code(code: str) -> None:
    """Stop a run whose code, of hash ``code`` when it began, has changed: its figures would be of two versions.

    Raises:
        UserError: it has.
    """
    if code_hash() != code:
        raise UserError("the code changed during the run: start it again, in a clone if work on the code goes on")


def run_benchmark(work: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and do the work; one clear sentence when it cannot be done."""
    options = parser.parse_args()
    with orderly("nothing is half-written"):
        work(options)


def _commit() -> str:
    """The commit the code is of, with ``-dirty`` when files differ from it or sources are new; empty outside git."""
    if not shutil.which("git"):
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()

    commit = git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    new = git("ls-files", "--others", "--exclude-standard", "--", "*.py")
    return f"{commit}-dirty" if new and not commit.endswith("-dirty") else commit


def _environment() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "processor": _of_processor("model name") or platform.processor(),
        "avx512": "avx512f" in _of_processor("flags").split(),  # one name may stand for several processors
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }


def _of_processor(key: str) -> str:
    """What Linux says of the first processor under ``key``; empty where it says nothing."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


#: Taken at the start: a run may last for an hour, and the next edit begins meanwhile.
COMMIT = _commit()
