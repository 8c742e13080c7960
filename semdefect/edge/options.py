"""What the commands share: options, types of arguments, and how errors are told."""

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from semdefect.edge.adaptive import AdaptiveClassifier
from semdefect.edge.classifier import Classifier, EdgeClassifier
from semdefect.edge.digest import SUMS
from semdefect.edge.pair import CHEAP
from semdefect.edge.rows import FORMATS
from semdefect.edge.runtime import RUNTIMES
from semdefect.edge.session import MAX_THREADS
from semdefect.edge.table import printable

DEFAULT_MODEL = Path("models/edge/student_int8.onnx")


def add_model_options(command: argparse.ArgumentParser, json_help: str) -> None:
    """Add ``--model``, ``--sha256``, ``--threads``, ``--runtime``, ``--json`` and the options of adaptive inference."""
    command.add_argument(
        "--model",
        type=Path,
        default=DEFAULT_MODEL,
        metavar="FILE",
        help="exported model (default: %(default)s)",
    )
    command.add_argument(
        "--sha256",
        type=_sha256,
        action="append",
        default=[],
        metavar="HEX",
        help=f"refuse a model whose file has another hash (default: what {SUMS} beside it says, where there is one); "
        "for two models, give it twice",
    )
    command.add_argument(
        "--threads", type=whole(1, MAX_THREADS), default=1, metavar="N", help="CPU threads for the network (default: 1)"
    )
    add_runtime(command)
    command.add_argument("--json", action="store_true", help=json_help)
    command.add_argument(
        "--adaptive",
        action="store_true",
        help="ask a cheap model first, and the --model only where that is unsure",
    )
    what = f"the cheap model of --adaptive (default: {CHEAP} beside the --model)"
    command.add_argument("--cheap", type=Path, metavar="FILE", help=what)
    command.add_argument(
        "--latency-budget-ms",
        type=_milliseconds,
        metavar="MS",
        help="with --adaptive: leave the --model out where an image, once decoded, would take longer",
    )
    command.set_defaults(wrong_usage=command.error)


def open_classifier(options: argparse.Namespace) -> Classifier:
    """What the options of `add_model_options` ask for. Ends with 2 where they contradict."""
    if not options.adaptive and (options.cheap or options.latency_budget_ms is not None):
        options.wrong_usage("--cheap and --latency-budget-ms belong to adaptive inference: pass --adaptive as well")
    full = EdgeClassifier(options.model, options.threads, options.runtime, options.sha256)
    if not options.adaptive:
        return full
    path = options.cheap or options.model.with_name(CHEAP)
    cheap = EdgeClassifier(path, options.threads, options.runtime, options.sha256)
    return AdaptiveClassifier(cheap, full, options.latency_budget_ms)


@contextmanager
def summarised(classifier: Classifier) -> Iterator[None]:
    """Tell on standard error, however the block ends, how often the full model was asked, where there are two."""
    try:
        yield
    finally:
        if isinstance(classifier, AdaptiveClassifier):
            sys.stdout.flush()  # in order with the results, where both go to one place
            print(classifier.summary(), file=sys.stderr)


def _sha256(text: str) -> str:
    """An argument's type: 64 hexadecimal digits."""
    if len(text) != 64 or not set(text.lower()) <= set("0123456789abcdef"):
        raise argparse.ArgumentTypeError(f"must be the 64 hexadecimal digits that sha256sum prints, not {text!r}")
    return text.lower()


def _milliseconds(text: str) -> float:
    """An argument's type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of milliseconds above 0, not {text!r}")
    return value


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


def some_path(text: str) -> Path:
    """The type of an argument: a path. An empty one, from an unset variable say, would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or a folder")
    return Path(text)


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
