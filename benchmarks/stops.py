"""How a stage ends on Ctrl-C and SIGTERM: at once, with one sentence, and with nothing left?

    python -m benchmarks.stops --stops 48 --seed 0         # up to half an hour on two cores

Runs the smoke profile once in a temporary copy of the project. Then starts each stage again and again and sends at a
random moment of a seed Ctrl-C, as a terminal does to all processes of a group; SIGTERM to the stage alone; and Ctrl-C
to a `dvc repro` of the stage. Right is: exit code 130 (of `dvc repro`: 252, 255 or -2), one sentence and no traceback,
within two seconds, no process and no unfinished file left, ``dvc.lock`` whole. A stage that is done before its signal,
or ends with 0 all the same, since its work was done and only Python's own end was left, is run again, with an earlier
one; how it ended is told only if that was not with 0, or without the outputs of a run that nothing stops. 48 stops or
more of seed 0 write benchmarks/results/stops.json; exit code 0 where all is right.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
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
    run,
    scratch_folder,
    summary_of,
    whole_lock,
)
from semdefect.edge.options import whole
from semdefect.errors import UserError

#: Seconds within which a stage has to end. Half of them are the stage's own bound; the rest is for a busy machine.
LIMIT = 2.0
#: Where the hashes of the outputs of the whole run are kept.
OUTPUTS = "outputs.whole"
#: Seconds after which a stage that does not end is killed, and told.
PATIENCE = 60.0
#: As many are a measurement; fewer try out.
STOPS = 48
#: How a stage is run and stopped.
WAYS = ("Ctrl-C", "SIGTERM", "Ctrl-C to dvc repro")


@dataclass(frozen=True)
class End:
    """How a stopped program ended."""

    stage: str
    way: str
    moment: float  #: s from its start to the signal, or to its end where that came before
    seconds: float  #: from the signal to its end
    code: int
    done: bool  #: whether it ended before the signal
    said: list[str]  #: lines on standard error
    left: list[str]  #: names of its processes that live on, and unfinished files

    def faults(self) -> list[str]:
        """What is wrong with it."""
        by_dvc = self.way == WAYS[2]
        # DVC ends by the signal itself (-2) where it has not begun, or is done with, its own work.
        right = (0, -2, 252, 255) if by_dvc else (0, 130)
        checks = {
            f"exit code {self.code}: {' / '.join(self.said)[:300]}": self.code not in right,
            f"{self.seconds:.1f} s": self.seconds > LIMIT,  # with exit code 0 too: a stage that takes no notice
            "a traceback": any("Traceback" in line for line in self.said),
            f"{len(self.said)} lines": len(self.said) > 1 and not by_dvc,
            "left: " + ", ".join(self.left): bool(self.left),
        }
        where = f"{self.stage}, {self.way} after {self.moment:.1f} s: "
        return [where + fault for fault, found in checks.items() if found]


def stop(folder: Path, stage: str, way: str, moment: float) -> End:
    """Start ``stage`` and stop it after ``moment`` s."""
    command = (
        dvc("repro", "--force", "--single-item", stage) if "dvc" in way else [sys.executable, "-m", f"stages.{stage}"]
    )
    shutil.rmtree(folder / ".scratch", ignore_errors=True)
    # DVC removes outputs before it runs a stage, which others read; figures are git's to bring back.
    run(folder, "git", "checkout", "-q", "--", "dvc.lock", "metrics")
    run(folder, *dvc("checkout", "--force"))
    if "dvc" not in way:
        _remove_outputs(folder, stage)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        try:
            begun = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment)
            started = time.monotonic()
            done = process.poll() is not None
            if not done:
                _signal(process, way)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            seconds = time.monotonic() - started
        finally:  # this benchmark was stopped, or the stage does not end
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        time.sleep(0.3)  # semaphores are removed by a process that sees the end of the others
        said.seek(0)
        lines = [line for line in re.split(r"[\r\n]+", said.read().decode(errors="replace")) if line.strip()]
    left = [*_session(process.pid), *leftovers(folder)]
    left += [] if whole_lock(folder) else ["half of dvc.lock, by DVC"]
    if process.returncode == 0:
        left += [f"another {name}" for name in differing(outputs(folder), json.loads((folder / OUTPUTS).read_text()))]
    return End(stage, way, started - begun, seconds, process.returncode, done, lines, left)


def _remove_outputs(folder: Path, stage: str) -> None:
    """As DVC does before it runs ``stage``: else those of an earlier run would pass for what it has written."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    for out in lock["stages"].get(stage, {}).get("outs", []):
        path = folder / out["path"]
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _signal(process: "subprocess.Popen[bytes]", way: str) -> None:
    if way == "SIGTERM":
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGINT)


def stop_underway(folder: Path, stage: str, way: str, longest: dict[str, float], rng: random.Random) -> list[End]:
    """Stop ``stage`` while it runs: what ends well by itself counts for nothing but how long it takes.

    Args:
        folder: the project.
        stage: name of the stage.
        way: one of `WAYS`.
        longest: stage and way → s after which the signal comes at the latest; made shorter where it came too late.
        rng: draws the moment.

    Returns:
        The stop, and after it those too late ones that went badly.

    Raises:
        UserError: it fails by itself again and again, or ends at once.
    """
    key, bad = f"{stage}, {way}", list[End]()
    while True:
        end = stop(folder, stage, way, rng.uniform(0.2, max(0.3, longest[key])))
        if not end.done and end.code:
            return [end, *bad]
        bad += [end] if end.faults() else []
        if len(bad) > 3 or end.moment < 0.2:
            raise UserError(f"{stage} ends by itself, with exit code {end.code}, before it can be stopped")
        longest[key] = min(longest[key], end.moment)


def _session(number: int) -> list[str]:
    """Names of the processes of a session that are alive; they are ended."""
    names = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                program, *words = process.cmdline()  # where Python lies on this machine tells a reader nothing
                names.append(" ".join([Path(program).name, *words])[:80])
                process.kill()
        except (psutil.Error, OSError, ValueError):  # it ended meanwhile, or has no command any more
            continue
    return names


def whole_run(folder: Path, bar: Any) -> dict[str, float]:
    """Run the smoke profile in ``folder``; seconds of each stage."""
    lay_out(folder)
    commit(folder)
    seconds = {}
    for stage in STAGES:
        bar.set_postfix_str(f"{stage}, not stopped")
        started = time.monotonic()
        run(folder, *dvc("repro", stage))
        seconds[stage] = time.monotonic() - started
    (folder / OUTPUTS).write_text(json.dumps(outputs(folder)))
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "-qm", "whole run")
    return seconds


def measure(options: argparse.Namespace) -> None:
    """Run, stop, tell, write."""
    # A shell starts background jobs with Ctrl-C ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.getsignal(signal.SIGTERM))
    rng = random.Random(options.seed)
    ends: list[End] = []
    with (
        scratch_folder("stops") as scratch,
        tqdm(total=options.stops, desc="stops", disable=None, leave=False) as bar,
    ):
        seconds = whole_run(scratch / "project", bar)
        longest = {f"{stage}, {way}": seconds[stage] for stage in STAGES for way in WAYS}
        for number in range(options.stops):
            stage, way = STAGES[number % len(STAGES)], WAYS[number // len(STAGES) % len(WAYS)]
            bar.set_postfix_str(f"{stage}, {way}")
            ends += stop_underway(scratch / "project", stage, way, longest, rng)
            bar.update()
    wrong = [fault for end in ends for fault in end.faults()]
    found = {"stops": options.stops, "wrong": wrong, "ways": {way: _figures(ends, way) for way in WAYS}}
    write_if_whole("stops", found, options.stops >= STOPS and options.seed == 0)
    if wrong:
        sys.exit(f"error: {len(wrong)} faults in {len(ends)} stops:\n{summary_of(wrong)}")
    print(f"{len(ends)} stops, the longest took {max(end.seconds for end in ends):.1f} s")


def _figures(ends: list[End], way: str) -> dict[str, Any]:
    """Of those stopped in one ``way``: how many, and the longest time in s."""
    chosen = [end for end in ends if end.way == way and not end.done and end.code]
    return {"stops": len(chosen), "longest_s": max((end.seconds for end in chosen), default=0.0)}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument(
        "--stops",
        type=whole(1, 10_000),
        default=STOPS,
        metavar="N",
        help="how many, over stages and ways (default: %(default)s)",
    )
    top.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    return top


if __name__ == "__main__":
    run_benchmark(measure, parser())
