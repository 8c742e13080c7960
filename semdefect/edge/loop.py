"""The commands that lead from the tool to the training set: ``watch`` and ``adopt``."""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

from semdefect.edge.classifier import Failure
from semdefect.edge.image import list_images
from semdefect.edge.inputs import SUFFIXES
from semdefect.edge.options import (
    add_model_options,
    open_classifier,
    print_error,
    results_file,
    some_path,
    summarised,
)
from semdefect.edge.results import Results
from semdefect.edge.review import ReviewFolder, adopt
from semdefect.edge.rows import row
from semdefect.edge.table import PredictionTable
from semdefect.edge.watching import COLUMNS, WatchedFolder, watch
from semdefect.errors import UserError

#: Where the pipeline looks for real images; the same as ``semdefect.base_images.REAL``, which a device lacks.
REAL = Path("data/real")


def add_watch(commands: Any) -> None:
    """Add the command ``watch``."""
    command = commands.add_parser(
        "watch",
        help="classify images as a tool writes them",
        description="Classify the images of a folder as they are written: whole files only, each once. Images under\n"
        "review are copied to a folder where a person decides on them; see `semdefect adopt --help`.\n"
        "Ctrl-C or SIGTERM ends it. Started again, it goes on where it was.",
        epilog="examples:\n"
        "  semdefect watch images/                         # copies and results in images/review/\n"
        "  semdefect watch images/ --review review/ --output results.csv\n"
        "  semdefect watch images/ --once                  # what is there now, from cron say",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("folder", type=some_path, metavar="FOLDER", help=f"where the images ({SUFFIXES}) are written")
    command.add_argument(
        "--review", type=some_path, metavar="FOLDER", help="where images under review go (default: FOLDER/review)"
    )
    command.add_argument(
        "--output",
        type=results_file,
        metavar="FILE",
        help="results, .jsonl or .csv; an image in it is done, unless it changes (default: REVIEW/results.jsonl)",
    )
    command.add_argument("--once", action="store_true", help="end after the images that are there")
    add_model_options(command, json_help="print one JSON object a line and image")
    command.set_defaults(run=_watch)


def add_adopt(commands: Any) -> None:
    """Add the command ``adopt``."""
    command = commands.add_parser(
        "adopt",
        help="take reviewed images into the training set",
        description="Move the images that a person has moved into REVIEW/<class>/ on to data/real/<class>/, where the\n"
        "next `dvc repro` finds them. Undecided ones stay. No image is overwritten.",
        epilog="examples:\n"
        "  mv review/wafer.*.png review/bridge/     # a person's decision; a file manager does as well\n"
        "  semdefect adopt review/",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("review", type=some_path, metavar="REVIEW", help="review folder of `semdefect watch`")
    command.add_argument(
        "--to",
        type=some_path,
        default=REAL,
        metavar="FOLDER",
        help="where real images lie, one folder a class (default: %(default)s)",
    )
    command.set_defaults(run=_adopt)


def _watch(options: argparse.Namespace) -> int:
    """Print and write one line an image as it comes; ends only with ``--once``, with 1 when any could not be read."""
    folder = options.folder
    review = options.review or folder / "review"
    list_images(folder)  # refuses a folder that is not there before anything is written
    if review.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{folder}: is the review folder {review} or in it; pass another --review")
    classifier = open_classifier(options)
    classes = classifier.classes
    table = PredictionTable((), classes)
    failed = False
    output = options.output or review / "results.jsonl"
    # A later model goes on with the rows of an earlier one: each row names its own, and nothing comes to review twice.
    opened = Results(output, classifier, resume=True, more=COLUMNS, one_model=False)
    with opened as results, summarised(classifier):
        watched = WatchedFolder(folder, results.earlier, patient=not options.once)
        if not options.json:
            print(table.header(), flush=True)
        for path, result in watch(watched, classifier, results, ReviewFolder(review, classes), options.once):
            failed |= isinstance(result, Failure)
            print(json.dumps(row(path, result)) if options.json else table.row(path, result), flush=True)
    return 1 if failed else 0


def _adopt(options: argparse.Namespace) -> int:
    """Move decided images and print what to do next; 1 when any was refused."""
    adopted = adopt(options.review, options.to)
    stay = f"; {adopted.undecided} undecided in {options.review}" if adopted.undecided else ""
    if not adopted.images and not adopted.refused:
        print(f"nothing adopted: move images from {options.review} into {options.review / '<class>'}{stay}")
    if adopted.images:
        numbers = ", ".join(f"{number} {name}" for name, number in sorted(adopted.images.items()))
        folders = [str(options.to / name) for name in sorted(adopted.images)]
        print(f"adopted into {options.to}: {numbers}{stay}\n\nnext:")
        print("  dvc add", shlex.join(folders))
        print("  git add", shlex.join(f"{folder}.dvc" for folder in folders))
        print("  dvc repro")
    for reason in adopted.refused:
        print_error(reason)
    return 1 if adopted.refused else 0
