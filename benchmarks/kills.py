"""Does a run that is killed again and again end with the bytes of one that is left alone?

    python -m benchmarks.kills --kills 30 --seed 0         # half an hour on two idle cores

Runs the smoke profile once in a temporary copy of the project, and a second time in another, stage by stage, killed by
SIGKILL at random moments of a seed: between a stage's first instruction and the moment in which DVC is done with it.
Killed are in turn the whole process group (as by a power cut), the process of the stage alone (as by the kernel where
memory is short), one worker process, or DVC alone, which leaves the stage to itself. `dvc repro` follows each time, and
nothing else: no file is removed or mended, but for a dvc.lock of which DVC, killed while it wrote it, left a part: the
one before is put back, as `git checkout dvc.lock` would, and that is counted. A stage that has ended and is to be
killed again begins from nothing. Compares every output at the end; 30 kills or more of seed 0 write
benchmarks/results/kills.json. Exit code 0 where all are the same.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml
from tqdm import tqdm

from benchmarks.environment import run_benchmark, write_if_whole
from benchmarks.smoke import (
    ENVIRONMENT,
    STAGES,
    commit,
    differing,
    dvc,
    lay_out,
    leftovers,
    outputs,
    scratch_folder,
    summary_of,
    whole_lock,
)
from semdefect.errors import UserError

#: As many are a measurement; fewer try out.
KILLS = 30
#: Times that `dvc repro` may fail in a row after DVC alone was killed, a second apart.
PATIENCE = 300


class Running:
    """A `dvc repro` of one stage in a process group of its own."""

    def __init__(self, folder: Path, stage: str) -> None:
        """Start it."""
        self.stage = stage
        self.said = tempfile.TemporaryFile()  # noqa: SIM115  a pipe would stay open as long as a stage without DVC
        self.dvc = subprocess.Popen(
            dvc("repro", stage),
            cwd=folder,
            env=ENVIRONMENT,
            stdout=self.said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def process(self) -> psutil.Process | None:
        """The process of the stage; None before it has begun and after its end."""
        try:
            children = psutil.Process(self.dvc.pid).children(recursive=True)
            return next((child for child in children if f"stages.{self.stage}" in child.cmdline()), None)
        except psutil.Error:
            return None

    def worker(self) -> psutil.Process | None:
        """A worker process of the stage; None where it has none now."""
        try:
            stage = self.process()
            children = stage.children() if stage else []
            return next((child for child in children if "--process-name" in child.cmdline()), None)
        except psutil.Error:
            return None

    def begun(self) -> bool:
        """Wait for the stage's first instruction; False where DVC ends without it."""
        while self.dvc.poll() is None:
            if self.process():
                return True
            time.sleep(0.01)
        return False

    def output(self) -> str:
        """What DVC and the stage have said; waits for the end of DVC."""
        self.dvc.wait()
        self.said.seek(0)
        return self.said.read().decode(errors="replace")

    def __enter__(self) -> "Running":
        """It runs already."""
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Where this benchmark is stopped meanwhile, nothing of it goes on."""
        if kind:
            with suppress(ProcessLookupError):  # the stage may outlive DVC, in its group
                os.killpg(self.dvc.pid, signal.SIGKILL)
            self.dvc.wait()
        self.said.close()


def _kill_group(running: Running) -> bool:
    if running.dvc.poll() is not None:
        return False
    os.killpg(running.dvc.pid, signal.SIGKILL)
    return True


def _kill_stage(running: Running) -> bool:
    return _killed(running.process())


def _kill_worker(running: Running) -> bool:
    return _killed(running.worker())


def _kill_dvc(running: Running) -> bool:
    if running.process() is None or running.dvc.poll() is not None:
        return False
    running.dvc.kill()
    return True


def _killed(process: psutil.Process | None) -> bool:
    try:
        if process:
            process.kill()
    except psutil.Error:
        return False
    return process is not None


#: What is killed, in turns. Each is told whether it found it alive.
VICTIMS: dict[str, Callable[[Running], bool]] = {
    "group": _kill_group,
    "stage": _kill_stage,
    "dvc": _kill_dvc,
    "worker": _kill_worker,
}


def uninterrupted(folder: Path, bar: Any) -> dict[str, float]:
    """Run the smoke profile in ``folder``; seconds from each stage's first instruction to the end of DVC."""
    seconds = {}
    for stage in STAGES:
        bar.set_postfix_str(f"{stage}, uninterrupted")
        with Running(folder, stage) as running:
            running.begun()
            started = time.monotonic()
            said = running.output()
            if running.dvc.returncode:
                raise UserError(f"{stage} failed without being killed: {said.strip()[-2000:]}")
            seconds[stage] = time.monotonic() - started
    return seconds


def kill_once(folder: Path, stage: str, delay: float, victim: str) -> str | float:
    """Start ``stage``, kill the ``victim`` after ``delay`` s.

    Returns:
        What was killed, the group where there was no ``victim`` then; or after how many seconds DVC ended, if before:
        0 where it took the stage from its run-cache, having been killed between that and dvc.lock.
    """
    with Running(folder, stage) as running:
        if not running.begun():
            said = running.output()
            if running.dvc.returncode:
                raise UserError(f"dvc repro {stage} did not run its stage: {said.strip()[-2000:]}")
            return 0.0
        started = time.monotonic()
        with suppress(subprocess.TimeoutExpired):
            running.dvc.wait(delay)
        if not VICTIMS[victim](running):
            victim = "group" if _kill_group(running) else ""
        running.dvc.wait()
        return victim or time.monotonic() - started


def finish(folder: Path, stage: str) -> int:
    """`dvc repro` until it succeeds, as a user would; how often it was refused since the stage still ran.

    Raises:
        UserError: it failed for another reason, or went on failing.
    """
    for refused in range(PATIENCE):
        with Running(folder, stage) as running:
            said = running.output()
        if not running.dvc.returncode:
            return refused
        if "is running in this folder" not in said:
            raise UserError(f"dvc repro {stage} fails after a kill: {said.strip()[-2000:]}")
        time.sleep(1)
    raise UserError(f"{stage} ran on for more than {PATIENCE} s after DVC was killed")


def kill_stage(folder: Path, stage: str, kills: int, seconds: float, rng: random.Random, bar: Any) -> dict[str, Any]:
    """Kill ``stage`` so many times, then let it end; how often what was killed, and when, as shares of its time."""
    counts: Counter[str] = Counter()
    moments, refused, restored, victims = [], 0, 0, list(VICTIMS)
    before = (folder / "dvc.lock").read_bytes() if (folder / "dvc.lock").exists() else b""
    while sum(counts.values()) < kills:
        anew = stage in _done(folder)
        if anew:
            _undo(folder, before)
        victim, delay = victims[sum(counts.values()) % len(victims)], rng.uniform(0, seconds)
        bar.set_postfix_str(f"{stage}, {victim} after {delay:.1f} s")
        killed = kill_once(folder, stage, delay, victim)
        if not whole_lock(folder):
            _write_lock(folder, before)
            restored += 1
        if not isinstance(killed, str):  # it ended before, as what is resumed does, or the machine is less busy now
            seconds = killed if anew and killed else seconds
            continue
        counts[killed] += 1
        moments.append(round(delay / seconds, 2))
        bar.update()
        if killed == "dvc":  # the next kills would be of a stage that is refused
            refused += finish(folder, stage)
    refused += finish(folder, stage)
    return {"kills": dict(counts), "moments": moments, "refused": refused, "locks_restored": restored}


def _done(folder: Path) -> set[str]:
    lock = folder / "dvc.lock"
    return set(yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]) if lock.exists() else set()


def _write_lock(folder: Path, lock: bytes) -> None:
    """Let dvc.lock hold ``lock``; nothing is none."""
    (folder / "dvc.lock").write_bytes(lock)
    if not lock:
        (folder / "dvc.lock").unlink()


def _undo(folder: Path, lock: bytes) -> None:
    """Let a stage that has ended begin again from nothing, as on the day when dvc.lock held ``lock``."""
    _write_lock(folder, lock)
    for kept in (".scratch", ".dvc/cache/runs"):
        shutil.rmtree(folder / kept, ignore_errors=True)


def measure(options: argparse.Namespace) -> None:
    """Run, kill, compare, write."""
    rng = random.Random(options.seed)
    shares = [options.kills // len(STAGES) + (index < options.kills % len(STAGES)) for index in range(len(STAGES))]
    with scratch_folder("kills", options.keep) as scratch:
        whole, killed = (lay_out(scratch / name) for name in ("uninterrupted", "killed"))
        for folder in (whole, killed):
            commit(folder)
        with tqdm(total=options.kills, desc="kills", disable=None, leave=False) as bar:
            seconds = uninterrupted(whole, bar)
            stages = {
                stage: kill_stage(killed, stage, share, seconds[stage], rng, bar)
                for stage, share in zip(STAGES, shares, strict=True)
            }
        first, second = outputs(whole), outputs(killed)
        different, left = differing(first, second), leftovers(killed)
    kills = sum(sum(stage["kills"].values()) for stage in stages.values())
    found = {"kills": kills, "outputs": len(first), "different": different, "left_behind": left, "stages": stages}
    write_if_whole("kills", found, kills >= KILLS and options.seed == 0)
    if different or left:
        sys.exit(f"error: after {kills} kills these outputs differ or are left over:\n{summary_of(different + left)}")
    print(f"{len(first)} outputs are the same, byte for byte, after {kills} kills")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument(
        "--kills", type=int, default=KILLS, help="how many, spread over the six stages (default: %(default)s)"
    )
    top.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    top.add_argument("--keep", action="store_true", help="do not remove the two folders at the end")
    return top


if __name__ == "__main__":
    run_benchmark(measure, parser())
