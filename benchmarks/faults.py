"""What stages say where the disk is full or nothing can be written, and whether the next run is right.

    python -m benchmarks.faults                     # root on Linux; ten minutes on two idle cores
    python -m benchmarks.faults --only distill

Runs the smoke profile once. Then, for each stage and fault: a copy of that run in a small file system in memory, the
stage's outputs removed, the fault made (so many kilobytes left; all read-only, or the folder of its output, or DVC's
cache), the stage run, the fault mended, `dvc repro` run. Right is: exit code 1, one sentence of the stage's own and no
traceback, nothing unfinished left behind, and at the end the bytes of the run without a fault.
Writes benchmarks/results/faults.json; exit code 0 where all is right.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from benchmarks.environment import run_benchmark, write_if_whole
from benchmarks.smoke import ENVIRONMENT, STAGES, commit, dvc, lay_out, leftovers, run, scratch_folder, summary_of
from semdefect.errors import UserError

#: Kilobytes that are left for each stage: for its first file, and so that later ones do not fit.
LEFT = {
    "synthesize": (0, 300),
    "split": (0, 8),
    "train_teacher": (0, 3000, 7000, 20000),
    "distill": (0, 3000, 7000, 20000),
    "export_onnx": (0, 1000, 7000, 9000),
    "evaluate": (0, 100, 1000),
}
#: Where each stage writes its output.
OUTPUT = {
    "synthesize": "data",
    "split": "data",
    "train_teacher": "models",
    "distill": "models",
    "export_onnx": "models",
    "evaluate": "metrics",
}
#: Of the file system in memory, in megabytes; what is too much is filled.
SIZE = 400
#: A fault in the mounted folder, as long as the block lasts.
Fault = Callable[[Path], Any]
#: Exit codes that are right: of a stage that may find room enough, of one that cannot write, of DVC.
ROOM, NONE, BY_DVC = (0, 1), (1,), (1, 255)


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system in memory at ``folder``; needs root."""
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        run(Path.cwd(), "umount", "--lazy", str(folder))  # a worker that ends last may still be in it


def _mount(*arguments: str) -> None:
    try:
        run(Path.cwd(), "mount", *arguments)
    except (UserError, FileNotFoundError):
        raise UserError("file systems cannot be mounted here: run this as root on Linux") from None


def full(kilobytes: int) -> Fault:
    """A disk with so many ``kilobytes`` left."""

    @contextmanager
    def fault(folder: Path) -> Iterator[None]:
        state, filler = os.statvfs(folder), folder / "filler"
        with filler.open("wb") as file:
            file.write(bytes(state.f_bavail * state.f_frsize - 1024 * kilobytes))
        try:
            yield
        finally:
            filler.unlink()

    return fault


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nothing can be written."""
    _mount("-o", "remount,ro", str(folder))
    try:
        yield
    finally:
        _mount("-o", "remount,rw", str(folder))


def read_only_below(name: str) -> Fault:
    """Nothing can be written below the folder ``name`` of the project."""

    @contextmanager
    def fault(folder: Path) -> Iterator[None]:
        place = folder / "project" / name
        place.mkdir(parents=True, exist_ok=True)
        _mount("--bind", str(place), str(place))
        try:
            _mount("-o", "remount,bind,ro", str(place))
            yield
        finally:
            run(Path.cwd(), "umount", "--lazy", str(place))

    return fault


cache_read_only = read_only_below(".dvc/cache")


def unfinished_copy(source: Path, folder: Path, stage: str) -> None:
    """Copy the finished project ``source`` to ``folder`` as it was before ``stage``."""
    shutil.copytree(source, folder, symlinks=True)
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    for later in STAGES[STAGES.index(stage) :]:
        for out in lock["stages"].pop(later)["outs"]:
            place = folder / out["path"]
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    for kept in (".dvc/cache/runs", ".scratch"):
        shutil.rmtree(folder / kept, ignore_errors=True)


def entry(folder: Path, stage: str) -> Any:
    """What dvc.lock says of ``stage``: hashes of all that it read and wrote."""
    return yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"].get(stage)


def suffer(source: Path, place: Path, stage: str, fault: Fault, codes: tuple[int, ...]) -> dict[str, Any]:
    """Run ``stage`` under ``fault``, to end with one of ``codes``, and again without; what it said, what is wrong."""
    by_dvc = fault is cache_read_only
    command = dvc("repro", stage) if by_dvc else [sys.executable, "-B", "-m", f"stages.{stage}"]
    with mounted(place) as disk:
        project = disk / "project"
        unfinished_copy(source, project, stage)
        with fault(disk):
            done = subprocess.run(
                command, cwd=project, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
            )
        text = done.stderr.decode(errors="replace").replace(f"{project}/", "")  # results hold no temporary names
        said = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
        wrong = faults_of(done.returncode, said, leftovers(project), by_dvc)
        if done.returncode not in codes:
            wrong.append(f"exit code {done.returncode}")
        run(project, *dvc("repro", stage))
        if entry(project, stage) != entry(source, stage):
            wrong.append("the next run wrote other bytes")
    return {"code": done.returncode, "said": said[-1:] if not by_dvc else said, "wrong": wrong}


def faults_of(code: int, said: list[str], left: list[str], by_dvc: bool) -> list[str]:
    """What is wrong with a run that met a fault, or too little of one to fail.

    Args:
        code: its exit code.
        said: lines on standard error.
        left: what it left unfinished.
        by_dvc: whether DVC ran it, whose own words are its own.
    """
    checks = {
        "a traceback": any("Traceback" in line for line in said),
        "no sentence": bool(code) and not any(line.lower().startswith("error: ") for line in said),
        "more than a sentence": bool(code) and not by_dvc and len(said) > 1,
        "left unfinished: " + ", ".join(left): bool(left),
    }
    return [name for name, found in checks.items() if found]


def measure(options: argparse.Namespace) -> None:
    """Make every fault, tell, write."""
    stages = [options.only] if options.only else list(STAGES)
    cases: list[tuple[str, str, Fault, tuple[int, ...]]] = [
        (stage, f"{left} kB left", full(left), ROOM) for stage in stages for left in LEFT[stage]
    ]
    cases += [(stage, "read-only", read_only, NONE) for stage in stages]
    cases += [(stage, f"{OUTPUT[stage]} read-only", read_only_below(OUTPUT[stage]), NONE) for stage in stages]
    cached = [stage for stage in stages if stage in ("split", "export_onnx")]
    cases += [(stage, "cache read-only", cache_read_only, BY_DVC) for stage in cached]
    found: dict[str, dict[str, Any]] = {}
    with scratch_folder("faults") as scratch:
        source = lay_out(scratch / "whole")
        commit(source)
        with tqdm(total=len(STAGES) + len(cases), desc="faults", disable=None, leave=False) as bar:
            for stage in STAGES:
                bar.set_postfix_str(f"{stage}, without a fault")
                run(source, *dvc("repro", stage))
                bar.update()
            for stage, name, fault, codes in cases:
                bar.set_postfix_str(f"{stage}, {name}")
                found[f"{stage}, {name}"] = suffer(source, scratch / "disk", stage, fault, codes)
                bar.update()
    wrong = [f"{name}: {', '.join(case['wrong'])}" for name, case in found.items() if case["wrong"]]
    for name, case in found.items():
        print(f"{name}: {case['code']}, {' '.join(case['said']) or 'room enough'}")
    write_if_whole("faults", {"cases": found, "wrong": wrong}, not options.only)
    if wrong:
        sys.exit(f"error: {len(wrong)} of {len(found)} faults are met wrongly:\n{summary_of(wrong)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--only", choices=STAGES, help="this stage alone; writes no file of results")
    return top


if __name__ == "__main__":
    run_benchmark(measure, parser())
