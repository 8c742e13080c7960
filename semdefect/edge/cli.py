"""The ``semdefect`` command: classify images, score a model on labelled ones, or measure its speed.

    semdefect classify wafer.png
    semdefect classify images/ --json > predictions.jsonl
    semdefect score labelled/ --model models/edge/student_fp32.onnx
    semdefect bench --against-plain

Results go to standard output; errors and the progress bar to standard error. Exit codes: 0 all went well, 1
an input could not be used, 2 the command line is wrong, 130 interrupted, 141 the reader of the output left.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import semdefect
from semdefect.edge.classifier import MAX_THREADS, EdgeClassifier, Failure, Prediction
from semdefect.edge.image import IMAGE_SUFFIXES, list_images
from semdefect.edge.runtime import RUNTIMES
from semdefect.edge.scoring import guard_figures, score
from semdefect.edge.table import PredictionTable, printable, score_text
from semdefect.errors import UserError

DEFAULT_MODEL = Path("models/edge/student_int8.onnx")

_SUFFIXES = " ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)


#: Adds a command to the command line.
Command = Callable[[Any], None]


def main(arguments: Sequence[str] | None = None, more: Sequence[Command] = ()) -> int:
    """Run the command line, with ``more`` commands than the device's own, and return its exit code."""
    # File names may hold bytes that the terminal cannot show. And Pillow warns about odd files on standard
    # error, in the middle of the progress bar: what matters of that comes back as an error.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    options = parser(more).parse_args(arguments)
    try:
        return _run(options)
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:  # the disk is full, say
        _drop_output()
        _print_error(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        return 130


def parser(more: Sequence[Command] = ()) -> argparse.ArgumentParser:
    """The command line. A new subcommand is one more ``_add_...`` that sets ``run``, called from here."""
    top = argparse.ArgumentParser(
        prog="semdefect",
        description="Defect classification on SEM images, on an edge CPU.",
        epilog="`semdefect COMMAND --help` shows options and examples.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {semdefect.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_classify, _add_score, _add_bench, *more):
        add(commands)
    return top


def _run(options: argparse.Namespace) -> int:
    try:
        code: int = options.run(options)
    except UserError as error:
        _print_error(str(error))
        code = 1
    sys.stdout.flush()  # while errors can still be told
    return code


def _drop_output() -> None:
    """Let standard output lead nowhere: Python flushes it while it exits, and would complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _add_classify(commands: Any) -> None:
    command = commands.add_parser(
        "classify",
        help="print class, confidence and decision for images",
        description="Print class, confidence and decision (accept, or review by a person) for each image.\n"
        "An image that cannot be read gets a line that says why; the others are still classified.",
        epilog="examples:\n"
        "  semdefect classify wafer.png\n"
        "  semdefect classify images/ --threads 2\n"
        "  semdefect classify images/ --json > predictions.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = f"image files, or folders whose images ({_SUFFIXES}) are all taken, subfolders not"
    command.add_argument("paths", nargs="+", type=Path, metavar="IMAGE|FOLDER", help=what)
    _add_model_options(command, json_help="print one JSON object a line and image")
    command.set_defaults(run=_classify)


def _add_score(commands: Any) -> None:
    command = commands.add_parser(
        "score",
        help="compare predictions with labelled images",
        description="Classify labelled images and print how often the model is right, in all and by class.\n"
        "purity: share of the images called a class that are of it; recall: share of a class that was found.",
        epilog="examples:\n"
        "  semdefect score labelled/            # labelled/bridge/*.png, labelled/clean/*.png, ...\n"
        "  semdefect score labelled/ --json --model models/edge/student_fp32.onnx",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "folder with one subfolder of images a class, named like the class"
    command.add_argument("folder", type=Path, metavar="FOLDER", help=what)
    _add_model_options(command, json_help="print one JSON object")
    command.set_defaults(run=_score)


def _add_bench(commands: Any) -> None:
    command = commands.add_parser(
        "bench",
        help="measure the speed of model files on this machine",
        description="Print how long decode, resize, network and whole call take (p50, p95, p99 and median CPU time in\n"
        "ms a call), images a second, and cold start and memory of a fresh process, for each model file.\n"
        "Times mean little on a busy machine; the ratios of --against-plain, from calls that take turns, mean more,\n"
        "and those of CPU time most.",
        epilog="examples:\n"
        "  semdefect bench\n"
        "  semdefect bench models/edge/student_fp32.onnx models/edge/student_int8.onnx --against-plain\n"
        "  semdefect bench --threads 1 2 --batch 1 8 --image wafer.png --json > speed.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "models", nargs="*", type=Path, default=[DEFAULT_MODEL], metavar="MODEL", help=f"default: {DEFAULT_MODEL}"
    )
    what = "images to measure with (default: made for it, PNG of 128 x 128 and 1024 x 1024)"
    command.add_argument("--image", nargs="+", type=Path, default=[], metavar="FILE", help=what)
    command.add_argument(
        "--threads",
        nargs="+",
        type=whole(1, MAX_THREADS),
        default=[1],
        metavar="N",
        help="CPU threads for the network, each measured (default: 1)",
    )
    command.add_argument(
        "--batch", nargs="+", type=whole(1, 256), default=[1], metavar="N", help="images a call (default: 1)"
    )
    command.add_argument(
        "--rounds", type=whole(1, 10_000), default=30, metavar="N", help="turns of each call (default: %(default)s)"
    )
    what = "beside it Pillow's and ONNX Runtime's defaults, and ONNX Runtime's on the same threads, with ratios"
    command.add_argument("--against-plain", action="store_true", help=what)
    _add_runtime(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_bench)


def _add_model_options(command: argparse.ArgumentParser, json_help: str) -> None:
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
    _add_runtime(command)
    command.add_argument("--json", action="store_true", help=json_help)


def _add_runtime(command: argparse.ArgumentParser) -> None:
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


def _classify(options: argparse.Namespace) -> int:
    """Print one line an image; 1 when any could not be read."""
    paths, folders = _requested(options.paths)
    classifier = EdgeClassifier(options.model, options.threads, options.runtime)
    table = PredictionTable(paths, classifier.metadata.classes)
    # The lines of the table are the progress where a person sees them.
    watched = _progress(paths, shown=folders and not sys.stdout.isatty())
    failures: list[str] = []
    alone = len(paths) == 1 and not folders
    if not options.json and not alone:
        print(table.header())
    for path, result in zip(paths, classifier.classify_many(watched), strict=True):
        if isinstance(result, Failure):
            failures.append(result.error)
        if options.json:
            print(_json_line(path, result), flush=True)
        elif not (alone and failures):
            print(table.row(path, result))
    if failures:
        summary = f"{len(failures)} of {len(paths)} images could not be read"
        _print_error(failures[0] if alone else summary)
    return 1 if failures else 0


def _score(options: argparse.Namespace) -> int:
    """Print the figures of a model on a labelled folder; 1 when any image could not be read."""
    classifier = EdgeClassifier(options.model, options.threads, options.runtime)
    classes = classifier.metadata.classes
    labelled = _labelled_images(options.folder, classes)
    paths = [path for path, _ in labelled]
    truth, probabilities, unreadable = [], [], []
    results = classifier.classify_many(_progress(paths, shown=True))
    for (path, number), result in zip(labelled, results, strict=True):
        if isinstance(result, Failure):
            unreadable.append({"path": str(path), "error": result.error})
        else:
            truth.append(number)
            probabilities.append(list(result.probabilities.values()))
    if not truth:
        reason = unreadable[0]["error"]
        raise UserError(f"{options.folder}: none of its {len(paths)} images can be read, the first: {reason}")
    figures = score(truth, probabilities, classes)
    figures["guard"] = guard_figures(probabilities, truth, classifier.metadata.threshold)
    figures |= {"model": str(options.model), "folder": str(options.folder), "unreadable": unreadable}
    print(
        json.dumps(figures, sort_keys=True)
        if options.json
        else f"{options.model} on {options.folder}\n\n{score_text(figures)}"
    )
    for failure in unreadable:
        _print_error(failure["error"])
    if unreadable:
        _print_error(f"{len(unreadable)} of {len(paths)} images could not be read and are not in the figures")
    return 1 if unreadable else 0


def _bench(options: argparse.Namespace) -> int:
    """Measure and print, one setting after the other."""
    from semdefect.edge import bench, bench_images, bench_table  # no other command needs them

    with tempfile.TemporaryDirectory() as scratch:
        settings = bench.Bench(
            models=options.models,
            images=options.image or bench_images.write_images(Path(scratch)),
            threads=options.threads,
            batches=options.batch,
            rounds=options.rounds,
            against_plain=options.against_plain,
            runtime=options.runtime,
        )
        calls = []
        for figures in settings.calls():
            calls.append(figures)
            if not options.json:
                print(bench_table.setting_text(figures), end="\n\n", flush=True)
        processes = list(settings.processes())
    if options.json:
        about = {"rounds": options.rounds, "runtime": options.runtime}
        print(json.dumps({**about, "calls": calls, "processes": processes}, sort_keys=True))
    else:
        print(bench_table.process_text(processes))
    return 0


def _requested(paths: Sequence[Path]) -> tuple[list[Path], bool]:
    """The image files that the arguments stand for, and whether a folder was among them."""
    found: list[Path] = []
    folders = False
    for path in paths:
        is_folder = os.path.isdir(path)  # noqa: PTH112, Path.is_dir raises where the name is too long
        folders |= is_folder
        images = list_images(path) if is_folder else [path]
        if not images:
            raise UserError(_none_in(path))
        found += images
    return found, folders


def _none_in(folder: Path) -> str:
    """Why a folder gives no images, and what to do."""
    inner = [entry.name for entry in sorted(folder.iterdir()) if entry.is_dir() and list_images(entry)]
    if not inner:
        return f"{folder}: holds no images; pass a folder with files that end in {_SUFFIXES}"
    names = ", ".join(inner[:3]) + (", …" if len(inner) > 3 else "")
    return f"{folder}: its images lie in subfolders ({names}); pass those, or score the folder if they are classes"


def _labelled_images(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """All images in the class subfolders of ``folder`` with the number of their class, sorted."""
    allowed = ", ".join(classes)
    loose = list_images(folder)
    if loose:
        raise UserError(
            f"{loose[0]}: lies outside the class folders; pass the folder that holds one folder a class ({allowed})"
        )
    labelled: list[tuple[Path, int]] = []
    for subfolder in sorted(folder.iterdir()):
        if not subfolder.is_dir() or subfolder.name.startswith("."):
            continue
        if subfolder.name not in classes:
            raise UserError(f"{subfolder}: is no class folder; rename it to one of {allowed}")
        images = list_images(subfolder)
        if not images:
            raise UserError(f"{subfolder}: holds no images; add files that end in {_SUFFIXES}, or remove the folder")
        labelled += [(path, classes.index(subfolder.name)) for path in images]
    if not labelled:
        raise UserError(
            f"{folder}: holds no labelled images; put files that end in {_SUFFIXES} into subfolders named {allowed}"
        )
    return labelled


def _json_line(path: Path, result: Prediction | Failure) -> str:
    return json.dumps({"path": str(path), **asdict(result)})


def _progress(paths: Sequence[Path], shown: bool) -> Iterable[Path]:
    """``paths``, with a bar on standard error when ``shown`` and a person looks at it."""
    if not shown or not sys.stderr.isatty():
        return paths
    from tqdm import tqdm  # only where it is seen: the import takes as long as classifying ten images

    return tqdm(paths, unit="image", leave=False)


def _print_error(message: str) -> None:
    sys.stdout.flush()  # in order with the results, where both go to one place
    print(f"error: {printable(message)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
