"""A copy of the project that tests may run and change."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
    "COLUMNS": "200",
}


class Project:
    """A checkout in a folder of its own, with the smoke profile laid over its parameters."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = ENVIRONMENT | (environment or {})

    def run(self, *command: str, ok: bool = True, timeout: int = 600) -> subprocess.CompletedProcess[str]:
        """Run a command in the checkout; fail the test with its output unless its exit code is as expected."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert (done.returncode == 0) == ok, f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def stages_run(self, output: str) -> list[str]:
        """Names of the stages that `dvc repro` or `dvc exp run` says it ran."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-qm", message)


def copy_project(folder: Path) -> Project:
    """The tracked and new files of this working tree, with the smoke profile, without any history."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if name == "dvc.lock" or name.startswith("metrics/") or not (ROOT / name).is_file():
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for block, values in yaml.safe_load((ROOT / "tests/smoke.yaml").read_text()).items():
        params[block] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return Project(folder)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
