"""Workspaces of cross-validation: folders in which the pipeline's stages run, each result at most once."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks import altered
from benchmarks.environment import require_code
from benchmarks.real_images import RealImages
from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.errors import UserError
from semdefect.network import weights_hash
from semdefect.params import PARAMS
from semdefect.stage import alone as held_alone
from semdefect.training_data import KEPT

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = Path(".scratch/real_cv")
#: The stages that a fold goes through, and the folder that each fills.
STAGES = {
    "synthesize": "data/synthetic",
    "split": "data/splits",
    "train_teacher": "models/teacher",
    "distill": "models/student",
    "export_onnx": "models/edge",
}


class RefusedError(UserError):
    """`export_onnx` failed: as a rule since INT8 and FP32 disagree, which another fold's may not do."""


@contextmanager
def alone() -> Iterator[None]:
    """Hold the workspaces: two processes in one would spoil each other's.

    Raises:
        UserError: another process holds them.
    """
    with held_alone(SCRATCH / "lock", f"{SCRATCH} is in use by another benchmark", ()):
        yield


def staged(images: RealImages, index: int) -> str:
    """Where image ``index`` lies in a workspace: its class and a name that no other image has."""
    return f"data/real/{CLASSES[images.truth[index]]}/{index:05d}_{images.paths[index].name}"


def prepare(workspace: Path, images: RealImages, training: NDArray[np.int64], content: dict[str, Any]) -> None:
    """Lay parameters and real images into an empty ``workspace``; fresh rendered images are shared by all."""
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / KEPT).parent.mkdir(parents=True)
    (workspace / KEPT).symlink_to(Path("../../fresh"), target_is_directory=True)
    (workspace / "data/real").mkdir(parents=True)
    for index in training:
        place = workspace / staged(images, index)
        place.parent.mkdir(exist_ok=True)  # a class without real images has no folder, and is rendered
        shutil.copyfile(images.paths[index], place)
    with replacing(workspace / PARAMS) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))


def starts(content: dict[str, Any]) -> dict[str, str]:
    """Hash of the weights that each training stage of the parameters ``content`` starts from."""
    return {stage: weights_hash(block["model"], block["init"]) for stage, block in content.items() if "init" in block}


def recipe_of(content: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a fold's models depend on: all but those of the evaluation, which does not run."""
    return {block: values for block, values in content.items() if block != "evaluate"}


def identities(code: str, files: Sequence[tuple[str, str]], content: dict[str, Any], part: str = "") -> dict[str, str]:
    """For each stage, a hash of all that its results depend on: code, real images, parameters of it and those before.

    `distill` depends on the bar that it trains for, too, which is a parameter of `export_onnx`.

    Args:
        code: hash of the code.
        files: place and hash of each real image that trains.
        content: parameters, block → key → value.
        part: name in `benchmarks.altered` of what is altered, if anything.
    """
    digest = hashlib.sha256(json.dumps([code, files, content["base"]]).encode())
    hashes, start = {}, starts(content)
    for stage in STAGES:
        block = content.get(stage, {})
        changed_part = altered.identity(part) if stage in altered.STAGES else []
        bar = [content.get("export_onnx", {}).get("int8_agreement")] if stage == "distill" else []
        digest.update(json.dumps([stage, block, start.get(stage, ""), *changed_part, *bar]).encode())
        hashes[stage] = digest.hexdigest()[:16]
    return hashes


def take_over(workspace: Path, stage: str, identity: str) -> bool:
    """Copy the results of ``stage`` from another workspace that ran it with the same ``identity``, if there is one."""
    for marker in sorted(SCRATCH.glob(f"*/.finished_{stage}")):
        if marker.read_text() == identity:
            shutil.rmtree(workspace / STAGES[stage], ignore_errors=True)  # half of it, where this was killed
            shutil.copytree(marker.parent / STAGES[stage], workspace / STAGES[stage], copy_function=os.link)
            print(f"{workspace.name}: {stage} taken over from {marker.parent.name}", flush=True)
            return True
    return False


def mark(path: Path, identity: str) -> None:
    """Note that a stage has ended with ``identity``."""
    with replacing(path) as temporary:
        temporary.write_text(identity)


class Children:
    """Processes that end with the benchmark."""

    def __init__(self) -> None:
        """None runs yet."""
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
        """Run ``command`` in ``folder`` to its end; its exit code.

        Raises:
            UserError: `stop` was called before.
        """
        with self._lock:
            if self._stopped:
                raise UserError("stopped, since another fold failed")
            process = subprocess.Popen(command, cwd=folder, env=environment)
            self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        return code

    def stop(self) -> None:
        """End what runs, and let nothing start any more."""
        with self._lock:
            self._stopped = True
        for process in list(self._running):
            process.terminate()
            process.wait()


def run_stages(workspace: Path, code: str, wanted: dict[str, str], children: Children, part: str = "") -> None:
    """Run those stages in ``workspace`` that no workspace has run with the identities that are ``wanted``.

    Where a ``part`` of `benchmarks.altered` is named, its stages run with it.

    Raises:
        RefusedError: the last stage failed; its own words are on the screen.
        UserError: so did another one, or the code is no longer that of the hash ``code``.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    altered_by = altered.identity(part)
    for stage, identity in wanted.items():
        finished = workspace / f".finished_{stage}"
        if finished.exists():
            continue
        if take_over(workspace, stage, identity):
            mark(finished, identity)
            continue
        print(f"{workspace.name}: {stage}", flush=True)
        program = ["benchmarks.altered", part, stage] if part and stage in altered.STAGES else [f"stages.{stage}"]
        if children.run([sys.executable, "-m", *program], workspace, environment):
            fault = RefusedError if stage == "export_onnx" else UserError
            raise fault(f"stage {stage} failed in {workspace}; what it said stands above")
        require_code(code)
        if altered.identity(part) != altered_by:
            raise UserError("benchmarks/altered.py changed during the run: start it again")
        mark(finished, identity)
