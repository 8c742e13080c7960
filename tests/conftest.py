"""Fixtures for tests that run the project as a user does."""

import os
import shutil
import signal
from pathlib import Path

import pytest
from filelock import FileLock
from project import Project, copy_project

# A shell starts background jobs with Ctrl-C ignored, and their children inherit that: tests that interrupt a program
# must find it as a terminal starts it, wherever they run.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that one of two processes does not end with them while the other is idle."""
    longest = ("test_pipeline.py", "test_benchmarks.py", "test_own_images.py")
    items.sort(key=lambda item: longest.index(item.path.name) if item.path.name in longest else len(longest))


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A committed checkout after its first `dvc repro`, one for all processes of the tests.

    For tests/test_pipeline.py, which may run experiments in it; other files take `untouched`, since they may run at the
    same time.
    """
    return Project(_made_once(tmp_path_factory) / "project")


@pytest.fixture(scope="session")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """`reproduced` as it was made. To be cloned, and not changed."""
    return Project(_made_once(tmp_path_factory) / "untouched")


def _made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the project after its run and a copy of it, made by the process that asks first."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "reproduced", shared / "reproduced/done"
    with FileLock(shared / "reproduced.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _reproduce(folder / "project")
            shutil.copytree(folder / "project", folder / "untouched", symlinks=True)
            done.touch()
    return folder


def _reproduce(folder: Path) -> None:
    project = copy_project(folder)
    project.run("git", "init", "-q", "-b", "main")
    project.commit("start")
    first = project.run("dvc", "repro")
    assert project.stages_run(first.stdout) == [
        "synthesize", "split", "train_teacher", "distill", "export_onnx", "evaluate"
    ]  # fmt: skip
    project.commit("first run")
