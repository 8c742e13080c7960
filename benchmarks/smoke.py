"""Copies of the project with the smoke profile, a run of minutes, and whether two of them hold the same bytes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from semdefect.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
#: The stages of ``dvc.yaml``, in their order.
STAGES = ("synthesize", "split", "train_teacher", "distill", "export_onnx", "evaluate")
#: With this Python's own programs first, and without what would import another copy's code.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "COLUMNS": "200",
    "DVC_NO_ANALYTICS": "1",  # else a process that outlives each command of DVC opens the repository, and its files
}


@contextmanager
def scratch_folder(name: str, keep: bool = False) -> Iterator[Path]:
    """A temporary folder named after what is done in it; removed at the end, or with ``keep`` said where it is."""
    folder = Path(tempfile.mkdtemp(prefix=f"semdefect-{name}-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def lay_out(folder: Path, **changes: dict[str, Any]) -> Path:
    """Copy the tracked and new files of this working tree, with the smoke profile, without any history.

    Real images are left out, with what DVC says of them: they lie in its cache, and the copy has none.

    Args:
        folder: where to; made where it is missing.
        changes: of the parameters beside the smoke profile, block → key → value.
    """
    for name in filter(None, _listed().split("\0")):
        real = name.startswith("data/real/") and name != "data/real/README.md"
        if real or name == "dvc.lock" or name.startswith("metrics/") or not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    smoke = yaml.safe_load((ROOT / "tests/smoke.yaml").read_text(encoding="utf-8"))
    for block, values in [*smoke.items(), *changes.items()]:
        params[block] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return folder


def _listed() -> str:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise UserError(f"{ROOT} is no git repository, or git is missing: run this in a clone of the project") from None


def run(folder: Path, *command: str) -> str:
    """Run a program in ``folder``; what it printed.

    Raises:
        UserError: it failed; gives the end of what it said.
    """
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed in {folder}: {done.stdout.strip()[-2000:]}")
    return done.stdout


def commit(folder: Path) -> None:
    """Make ``folder`` a git repository with one commit, which DVC and DVCLive want."""
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "start")


def dvc(*arguments: str) -> list[str]:
    """The command line of DVC in this environment."""
    return [sys.executable, "-m", "dvc", *arguments]


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of all that the pipeline has written: every output in ``dvc.lock``, all figures, ``dvc.lock`` itself."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    places = {folder / out["path"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    files = [folder / "dvc.lock", *(folder / "metrics").rglob("*")]
    for place in places:
        files += place.rglob("*") if place.is_dir() else [place]
    found = {file for file in files if file.is_file()}
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(found)
    }


def differing(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Files that only one of two `outputs` has, or that are not the same in both; sorted."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def leftovers(folder: Path) -> list[str]:
    """What killed processes left unfinished, but for DVC's own; sorted."""
    parts = [place.relative_to(folder) for place in folder.rglob(".*.part*")]
    return sorted(part.as_posix() for part in parts if part.parts[0] not in (".git", ".dvc"))


def whole_lock(folder: Path) -> bool:
    """Whether ``dvc.lock`` is none or a whole one: DVC writes it in place, and a kill within that time breaks it."""
    lock = folder / "dvc.lock"
    try:
        return not lock.exists() or set(yaml.safe_load(lock.read_text(encoding="utf-8"))) == {"schema", "stages"}
    except (yaml.YAMLError, TypeError):
        return False


def summary_of(names: Sequence[str], most: int = 20) -> str:
    """``names``, one a line, and how many more there are than ``most``."""
    return "\n".join([f"  {name}" for name in names[:most]] + [f"  and {len(names) - most} more"] * (len(names) > most))
