"""What every stage script does before and after its work."""

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from semdefect.errors import UserError
from semdefect.params import PARAMS, Params, Shape, load_shaped


def _stop(signum: int, frame: FrameType | None) -> None:
    """End like Ctrl-C, so that temporary files go and checkpoints stay."""
    raise KeyboardInterrupt


def _require_commit() -> None:
    """DVCLive fails in a DVC repository without a git commit, and would do so only after the training."""
    if not Path(".dvc").is_dir():
        return
    head = shutil.which("git") and subprocess.run(["git", "rev-parse", "-q", "--verify", "HEAD"], capture_output=True)
    if not head or head.returncode:
        raise UserError("DVC needs a git repository with a commit: run git init && git add -A && git commit -m start")


@contextmanager
def orderly(stopped: str) -> Iterator[None]:
    """Leave the program with one clear sentence where the user can mend what is wrong, and in order when it is killed.

    Args:
        stopped: what Ctrl-C or SIGTERM prints before the exit code 130.
    """
    signal.signal(signal.SIGTERM, _stop)
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")
    except KeyboardInterrupt:
        print(f"\nstopped; {stopped}", file=sys.stderr)
        sys.exit(130)


def run_stage(
    work: Callable[[Shape], None],
    description: str | None,
    path: str = PARAMS,
    shape: type[Shape] = Params,  # type: ignore[assignment]
) -> None:
    """Parse the command line, check the parameters, do the work; one clear sentence when it cannot be done.

    Args:
        work: the stage; takes the checked parameters.
        path: the parameter file, where the command line names no other.
        shape: what the file holds.
        description: the script's docstring, shown by ``--help``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default=path, help="parameter file (default: %(default)s)")
    arguments = parser.parse_args()
    with orderly("run it again, by `dvc repro` or by hand, and it goes on after the last finished epoch or stage"):
        params = load_shaped(arguments.params, shape)
        _require_commit()
        work(params)
