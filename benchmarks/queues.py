"""Do experiments that run at once get in each other's way? Two workers of DVC's queue, and a third by `--temp`.

    python -m benchmarks.queues                   # ten minutes on two idle cores

Runs the smoke profile in a temporary copy of the project, then three experiments that train other students, all at the
same time: two by `dvc queue start -j 2`, one by `dvc exp run --temp`. Runs the same three one after another in a clone
and compares dvc.lock and every figure that git keeps, and so the hash of every output, of each pair.
Writes benchmarks/results/queues.json; exit code 0 where all are the same.
"""

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from benchmarks.environment import run_benchmark, write_result
from benchmarks.smoke import ENVIRONMENT, commit, differing, dvc, lay_out, run, scratch_folder, summary_of
from semdefect.errors import UserError

#: Name → what it changes. The last one runs by `--temp`, the others in the queue.
EXPERIMENTS = {"warm": "distill.temperature=4", "alone": "distill.alpha=1.0", "correlated": "distill.method=dist"}
#: Seconds that the queue may take.
PATIENCE = 3600


def start(folder: Path) -> Path:
    """A committed project after its first run."""
    lay_out(folder)
    commit(folder)
    run(folder, *dvc("repro"))
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "first run")
    return folder


@contextmanager
def queue_ended(folder: Path) -> Iterator[None]:
    """End with the block the queue of the project in ``folder``: its workers outlive who starts them."""
    try:
        yield
    finally:
        if (folder / ".dvc").is_dir():
            command = dvc("queue", "stop", "--kill")
            subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=False)


def at_once(folder: Path) -> None:
    """Run all `EXPERIMENTS` at the same time."""
    *queued, apart = EXPERIMENTS
    for name in queued:
        run(folder, *dvc("exp", "run", "--queue", "--name", name, "--set-param", EXPERIMENTS[name]))
    run(folder, *dvc("queue", "start", "--jobs", str(len(queued))))
    run(folder, *dvc("exp", "run", "--temp", "--name", apart, "--set-param", EXPERIMENTS[apart]))
    deadline = time.monotonic() + PATIENCE
    while any(word in run(folder, *dvc("queue", "status")) for word in ("Queued", "Running")):
        if time.monotonic() > deadline:
            raise UserError(f"the queue has not ended after {PATIENCE} s: see `dvc queue status` in {folder}")
        time.sleep(2)
    run(folder, *dvc("queue", "stop"))


def in_turn(folder: Path) -> None:
    """Run all `EXPERIMENTS` one after another."""
    for name, change in EXPERIMENTS.items():
        run(folder, *dvc("exp", "run", "--name", name, "--set-param", change))
        run(folder, "git", "checkout", "-q", ".")
        run(folder, *dvc("checkout"))


def kept(folder: Path, name: str) -> dict[str, str]:
    """What git keeps of the experiment ``name``: dvc.lock and the figures, each with the hash of its content.

    Raises:
        UserError: there is no such experiment, as where it failed.
    """
    refs = run(folder, "git", "for-each-ref", "refs/exps", "--format=%(refname)").split()
    found = [ref for ref in refs if ref.endswith(f"/{name}")]
    if not found:
        raise UserError(f"experiment {name} has no result in {folder}: {run(folder, *dvc('queue', 'status'))}")
    lines = run(folder, "git", "ls-tree", "-r", found[0], "--", "dvc.lock", "metrics").splitlines()
    return {line.split("\t")[1]: line.split()[2] for line in lines}


def measure(options: argparse.Namespace) -> None:
    """Run, compare, write."""
    with scratch_folder("queues", options.keep) as scratch, queue_ended(scratch / "at once"):
        with tqdm(total=3, desc="queues", disable=None, leave=False) as bar:
            first = start(scratch / "at once")
            bar.update()
            run(scratch, "git", "clone", "-q", str(first), "in turn")
            second = scratch / "in turn"
            shutil.copytree(first / ".dvc/cache", second / ".dvc/cache")
            run(second, *dvc("checkout"))
            at_once(first)
            bar.update()
            in_turn(second)
            bar.update()
        pairs = {name: (kept(first, name), kept(second, name)) for name in EXPERIMENTS}
    different = [f"{name}: {file}" for name, (one, other) in pairs.items() for file in differing(one, other)]
    locks = {one["dvc.lock"] for one, _ in pairs.values()}
    if len(locks) < len(EXPERIMENTS):
        raise UserError("two experiments have the same dvc.lock: their parameters did not arrive")
    found = {"experiments": EXPERIMENTS, "files": sum(len(one) for one, _ in pairs.values()), "different": different}
    print(f"written to {write_result('queues', found)}")
    if different:
        sys.exit(f"error: run at once, experiments differ from those run in turn:\n{summary_of(different)}")
    print(f"{len(EXPERIMENTS)} experiments are the same, byte for byte, at once and in turn")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--keep", action="store_true", help="do not remove the two folders at the end")
    return top


if __name__ == "__main__":
    run_benchmark(measure, parser())
