"""What every stage script does before and after its work."""

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

from semdefect.errors import UserError
from semdefect.params import Params, load_params


def _stop(signum: int, frame: FrameType | None) -> None:
    """End like Ctrl-C, so that temporary files go and checkpoints stay."""
    raise KeyboardInterrupt


def _require_commit() -> None:
    """DVCLive fails in a git repository without commits, and would do so only after the training."""
    asked = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], capture_output=True, check=False)
    head = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, check=False)
    if asked.returncode == 0 and head.returncode != 0:
        raise UserError("this git repository has no commit yet: run git add -A && git commit -m start")


def run_stage(work: Callable[[Params], None], description: str | None) -> None:
    """Parse the command line, check the parameters, do the work; one clear sentence when it cannot be done.

    Args:
        work: the stage; takes the checked parameters.
        description: the script's docstring, shown by ``--help``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="params.yaml", help="parameter file (default: %(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        params = load_params(arguments.params)
        _require_commit()
        work(params)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")
    except KeyboardInterrupt:
        print("\nstopped; `dvc repro` goes on from the last finished epoch or stage", file=sys.stderr)
        sys.exit(130)
