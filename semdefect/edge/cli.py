"""The ``semdefect`` command: classify images, take what was reviewed into training, score a model, measure speed.

    semdefect classify wafer.png
    semdefect classify images/ --output results.csv
    semdefect watch images/ --review review/
    semdefect adopt review/
    semdefect score labelled/ --model models/edge/student_fp32.onnx
    semdefect bench --against-plain

Results go to standard output; errors and the progress bar to standard error. Exit codes: 0 all went well, 1
an input could not be used, 2 the command line is wrong, 130 interrupted, 141 the reader of the output left, 143
terminated.
"""

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import semdefect
from semdefect.edge.adaptive import AdaptiveClassifier
from semdefect.edge.bench_command import add_bench
from semdefect.edge.classifier import Classifier, Failure
from semdefect.edge.ending import Ended, check, ended_by_signals
from semdefect.edge.guard import REASONS
from semdefect.edge.guard_scoring import guard_figures
from semdefect.edge.image import list_images
from semdefect.edge.inputs import SUFFIXES, Images, listed, named
from semdefect.edge.loop import add_adopt, add_watch
from semdefect.edge.options import add_model_options, open_classifier, print_error, results_file, some_path, summarised
from semdefect.edge.results import Results
from semdefect.edge.rows import row
from semdefect.edge.scoring import score
from semdefect.edge.table import PredictionTable, score_text
from semdefect.errors import UserError

Result = TypeVar("Result")

#: Among the images to classify: a list of them comes on standard input.
STANDARD_INPUT = "-"
#: Adds a command to the command line.
Command = Callable[[Any], None]


def main(arguments: Sequence[str] | None = None, more: Sequence[Command] = ()) -> int:
    """Run the command line, with ``more`` commands than the device's own, and return its exit code."""
    # File names may hold bytes that the terminal cannot show. And Pillow warns about odd files on standard
    # error, in the middle of the progress bar: what matters of that comes back as an error.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, for as long as the program runs
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    options = parser(more).parse_args(arguments)
    try:
        with ended_by_signals():
            return _run(options)
    except Ended as ended:
        return ended.code
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:  # the disk is full, say
        _drop_output()
        print_error(f"{error.filename or 'standard output'}: {error.strerror or error}")
        return 1


def parser(more: Sequence[Command] = ()) -> argparse.ArgumentParser:
    """The command line. A new subcommand is one more ``_add_...`` that sets ``run``, called from here."""
    top = argparse.ArgumentParser(
        prog="semdefect",
        description="Defect classification on SEM images, on an edge CPU.",
        epilog="`semdefect COMMAND --help` shows options and examples.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {semdefect.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in (_add_classify, add_watch, add_adopt, _add_score, add_bench, *more):
        add(commands)
    return top


def _run(options: argparse.Namespace) -> int:
    try:
        code: int = options.run(options)
    except UserError as error:
        print_error(str(error))
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
        description="Print class, confidence and decision (accept, or review by a person) for each image,\n"
        "or write them to a file. An image that cannot be read gets a line that says why; the others are still\n"
        "classified.",
        epilog="examples:\n"
        "  semdefect classify wafer.png\n"
        "  semdefect classify images/ --threads 2\n"
        "  semdefect classify images/ --output results.csv\n"
        "  semdefect classify images/ --output results.csv --resume     # after an interruption\n"
        "  semdefect classify images/ --model models/edge/student_w8.onnx --adaptive\n"
        "  find lots -name '*.png' -print0 | semdefect classify - --null --output results.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = (
        f"image files, or folders whose images ({SUFFIXES}) are all taken, subfolders not; "
        "or - for a list of files on standard input, one a line"
    )
    command.add_argument("paths", nargs="+", type=_listed_or_path, metavar="IMAGE|FOLDER|-", help=what)
    command.add_argument("-0", "--null", action="store_true", help="the list on standard input has NULs, not line ends")
    add_model_options(command, json_help="print one JSON object a line and image")
    command.add_argument(
        "--output",
        type=results_file,
        metavar="FILE",
        help="write one row an image there as it comes: JSON lines (.jsonl) or CSV (.csv), by the name's ending",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="go on with an output that is there: its rows are kept, and images of the same paths not computed again",
    )
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
    command.add_argument("folder", type=some_path, metavar="FOLDER", help=what)
    add_model_options(command, json_help="print one JSON object")
    command.set_defaults(run=_score)


def _classify(options: argparse.Namespace) -> int:
    """Print or write one line an image; 1 when any could not be read."""
    images = _requested(options)
    classifier = open_classifier(options)
    if options.output:
        return _classify_into(options.output, images, classifier, options)
    table = PredictionTable(() if images.total is None else images.paths, classifier.classes)
    if not options.json and not images.alone:
        print(table.header())
    # The lines of the table are the progress where a person sees them.
    bar = not images.alone and not sys.stdout.isatty()
    read, failures, first = 0, 0, ""
    with summarised(classifier):
        for path, result in _progress(classifier.stream(images.paths), images.total, shown=bar):
            check()
            read += 1
            if isinstance(result, Failure):
                failures += 1
                first = first or result.error
            if options.json:
                print(json.dumps(row(path, result)), flush=True)
            elif not (images.alone and failures):
                print(table.row(path, result), flush=images.total is None)  # whoever writes the list may wait for it
    if failures:
        print_error(first if images.alone else f"{failures} of {read} images could not be read")
    return 1 if failures else 0


def _listed_or_path(text: str) -> str | Path:
    """The type of an argument: `STANDARD_INPUT` or a path. ``./-`` is a file."""
    return text if text == STANDARD_INPUT else some_path(text)


def _requested(options: argparse.Namespace) -> Images:
    """The images that the command line of ``classify`` asks for. Ends with 2 where its options contradict."""
    from_list = STANDARD_INPUT in options.paths
    if from_list and len(options.paths) > 1:
        options.wrong_usage("- takes the images from standard input: pass it alone")
    if options.null and not from_list:
        options.wrong_usage("--null says how standard input is separated: pass - as well")
    if options.resume and not options.output:
        options.wrong_usage("--resume goes on with an output: pass --output FILE as well")
    return listed(options.null) if from_list else named(options.paths)


def _classify_into(output: Path, images: Images, classifier: Classifier, options: argparse.Namespace) -> int:
    """Write one row an image; 1 when any could not be read, now or before."""
    with Results(output, classifier, options.resume) as results, summarised(classifier):
        earlier = results.count.total()
        missing: Iterable[Path] = results.missing(images.paths)
        done = earlier
        if images.total is not None:  # rows of other images do not count
            paths = list(missing)
            missing, done = paths, images.total - len(paths)
        bar = not (options.json and sys.stdout.isatty())
        for path, result in _progress(classifier.stream(missing), images.total, shown=bar, done=done):
            check()
            results.write(path, result)
            if options.json:
                print(json.dumps(row(path, result)), flush=True)
    if not options.json:
        print(f"{output}: {results.summary()}" + (f"; {earlier} of them from before" if earlier else ""))
    unreadable = results.count["error"]
    if unreadable:
        print_error(f"{unreadable} of {results.count.total()} images could not be read; {output} says why")
    return 1 if unreadable else 0


def _score(options: argparse.Namespace) -> int:
    """Print the figures of a model on a labelled folder; 1 when any image could not be read."""
    classifier = open_classifier(options)
    classes = classifier.classes
    labelled = _labelled_images(options.folder, classes)
    paths = [path for path, _ in labelled]
    truth, probabilities, codes, unreadable = [], [], [], []
    results = _progress(classifier.classify_many(paths), len(paths), shown=True)
    with summarised(classifier):
        for (path, number), result in zip(labelled, results, strict=True):
            if isinstance(result, Failure):
                unreadable.append({"path": str(path), "error": result.error})
            else:
                truth.append(number)
                probabilities.append(list(result.probabilities.values()))
                codes.append(REASONS.index(result.reason or ""))
    if not truth:
        reason = unreadable[0]["error"]
        raise UserError(f"{options.folder}: none of its {len(paths)} images can be read, the first: {reason}")
    figures = score(truth, probabilities, classes)
    figures["guard"] = guard_figures(probabilities, truth, np.array(codes), classes)
    figures |= {"model": str(options.model), "folder": str(options.folder), "unreadable": unreadable}
    name = str(options.model)
    if isinstance(classifier, AdaptiveClassifier):
        figures["adaptive"] = classifier.figures()
        name = f"{figures['adaptive']['cheap']} and {name}"
    print(
        json.dumps(figures, sort_keys=True) if options.json else f"{name} on {options.folder}\n\n{score_text(figures)}"
    )
    for failure in unreadable:
        print_error(failure["error"])
    if unreadable:
        print_error(f"{len(unreadable)} of {len(paths)} images could not be read and are not in the figures")
    return 1 if unreadable else 0


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
            raise UserError(f"{subfolder}: holds no images; add files that end in {SUFFIXES}, or remove the folder")
        labelled += [(path, classes.index(subfolder.name)) for path in images]
    if not labelled:
        raise UserError(
            f"{folder}: holds no labelled images; put files that end in {SUFFIXES} into subfolders named {allowed}"
        )
    return labelled


def _progress(results: Iterable[Result], total: int | None, shown: bool, done: int = 0) -> Iterable[Result]:
    """``results``, with a bar on standard error when ``shown`` and a person looks at it."""
    if not shown or not sys.stderr.isatty():
        return results
    from tqdm import tqdm  # only where it is seen: the import takes as long as classifying ten images

    return tqdm(results, total=total, initial=done, unit="image", leave=False)


if __name__ == "__main__":
    sys.exit(main())
