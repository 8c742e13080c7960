"""A copy of the project that tests may run and change."""

import csv
import subprocess
from pathlib import Path

from benchmarks.smoke import ENVIRONMENT, ROOT, lay_out

__all__ = ["ENVIRONMENT", "ROOT", "Project", "copy_project", "rows_of"]


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
    """The tracked and new files of this working tree, with the smoke profile, without any history.

    One thread: two tests run at the same time, and on two cores those with two threads each took 1.4 times as long.
    That two threads repeat their bytes is for `benchmarks.verify`.
    """
    return Project(lay_out(folder, base={"threads": 1}))


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
