"""What every stage script does before and after its work."""

import argparse
import signal
import sys
from collections.abc import Callable
from types import FrameType

from semdefect.errors import UserError
from semdefect.params import Params, load_params


def _stop(signum: int, frame: FrameType | None) -> None:
    """End like Ctrl-C, so that temporary files go and checkpoints stay."""
    raise KeyboardInterrupt


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
        work(load_params(arguments.params))
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")
    except KeyboardInterrupt:
        print("\nstopped; `dvc repro` goes on from the last finished epoch or stage", file=sys.stderr)
        sys.exit(130)
