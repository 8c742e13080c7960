"""What the commands share: options, types of arguments, and how errors are told."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from semdefect.edge.classifier import MAX_THREADS
from semdefect.edge.rows import FORMATS
from semdefect.edge.runtime import RUNTIMES
from semdefect.edge.table import printable

DEFAULT_MODEL = Path("models/edge/student_int8.onnx")


def add_model_options(command: argparse.ArgumentParser, json_help: str) -> None:
    """Add ``--model``, ``--threads``, ``--runtime`` and ``--json``."""
    command.add_argument(
        "--model",
        type=Path,
        default=DEFAULT_MODEL,
        metavar="FILE",
        help="exported model (default: %(default)s)",
    )
    command.add_argument(
        "--threads", type=whole(1, MAX_THREADS), default=1, metavar="N", help="CPU threads for the network (default: 1)"
    )
    add_runtime(command)
    command.add_argument("--json", action="store_true", help=json_help)


def add_runtime(command: argparse.ArgumentParser) -> None:
    """Add ``--runtime``."""
    command.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default=RUNTIMES[0],
        help="what computes the network (default: %(default)s); openvino needs the package of that name",
    )


def whole(low: int, high: int) -> Callable[[str], int]:
    """An argument's type: a whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > 18 or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, not {text!r}")
        return int(text)

    return parse


def results_file(text: str) -> Path:
    """The type of an argument: the name of a results file."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"must end in {' or '.join(FORMATS)}, not {text!r}")
    return path


def print_error(message: str) -> None:
    """Tell what went wrong, on one line of standard error."""
    sys.stdout.flush()  # in order with the results, where both go to one place
    print(f"error: {printable(message)}", file=sys.stderr)
