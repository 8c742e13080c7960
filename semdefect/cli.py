"""The ``semdefect`` command: what runs on the device, and ``render``, which needs the training packages."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semdefect import CLASSES
from semdefect.edge import cli
from semdefect.edge.options import some_path, whole
from semdefect.errors import UserError
from semdefect.startup import start_again

DATA = Path("data")
MANIFEST = DATA / "synthetic/manifest.csv"
DEFAULTS = {"n": 24, "seed": 0, "size": 224}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; the entry point of the ``semdefect`` script."""
    if arguments is None and sys.argv[1:2] == ["render"]:
        start_again()  # as the stages draw
    return cli.main(arguments, [_add_render])


def _add_render(commands: Any) -> None:
    command = commands.add_parser(
        "render",
        help="draw SEM images with known defects",
        description="Draw SEM images from nothing: contact sheets to look at, or images with masks and records.\n"
        "Image i has the seed SEED + i; the same class, seed and size give the same image anywhere.",
        epilog="examples:\n"
        "  semdefect render --class bridge --n 48 --sheet sheet.png --masks\n"
        "  semdefect render --sheet all.png                      # every class\n"
        "  semdefect render --class via --family void --n 10 --images out/\n"
        "  semdefect render --row bridge/00012_rendered.png --images out/   # again, from the data set's manifest\n"
        "  semdefect render --list",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "--class", dest="class_name", choices=CLASSES, metavar="CLASS", help=f"one of {', '.join(CLASSES)}; default all"
    )
    command.add_argument("--family", metavar="NAME", help="scene family of the class; default: as they come")
    command.add_argument("--n", type=whole(1, 10_000), metavar="N", help=f"images a class (default: {DEFAULTS['n']})")
    command.add_argument(
        "--seed", type=whole(0, 10**15), metavar="N", help=f"seed of the first (default: {DEFAULTS['seed']})"
    )
    command.add_argument(
        "--size", type=whole(64, 1024), metavar="PX", help=f"side, 64-1024 px (default: {DEFAULTS['size']})"
    )
    command.add_argument("--sheet", type=some_path, metavar="FILE", help="contact sheet to write, a .png")
    command.add_argument("--masks", action="store_true", help="on the sheet, each image again with only its defect lit")
    command.add_argument(
        "--images", type=some_path, metavar="FOLDER", help="write each image, its mask and its record (JSON) there"
    )
    command.add_argument("--row", metavar="PATH", help="draw this image of the data set again, by its path there")
    command.add_argument(
        "--manifest",
        type=some_path,
        metavar="FILE",
        help=f"where --row looks (default: {MANIFEST})",
    )
    command.add_argument("--list", action="store_true", help="print classes and families with their shares")
    command.set_defaults(run=_render)


def _render(options: argparse.Namespace) -> int:
    try:
        from semdefect import rendering  # not on the device
    except ModuleNotFoundError as missing:
        raise UserError(
            f"render needs the training packages ({missing.name} is not installed): "
            f"run pip install -r requirements.txt in the repository"
        ) from None
    names = [options.class_name] if options.class_name else CLASSES
    if options.list:
        _only_list(options)
        print(rendering.family_list(names))
        return 0
    _check(options)
    chosen = {
        key: default if getattr(options, key) is None else getattr(options, key) for key, default in DEFAULTS.items()
    }
    if options.sheet and chosen["n"] * len(names) > rendering.LARGEST_SHEET:
        raise UserError(f"--sheet holds at most {rendering.LARGEST_SHEET} images: lower --n, or pass --images alone")
    if options.row:
        pictures = iter([rendering.picture_of_row(options.row, options.manifest or MANIFEST)])
    else:
        pictures = rendering.pictures(names, **chosen, family=options.family)
    rendering.write(pictures, options.sheet, options.masks, options.images)
    return 0


def _only_list(options: argparse.Namespace) -> None:
    for name in ("row", "family", "n", "seed", "size", "sheet", "images", "manifest"):
        if getattr(options, name) is not None:
            raise UserError(f"--list prints names and draws nothing: leave --{name} out")
    if options.masks:
        raise UserError("--list prints names and draws nothing: leave --masks out")


def _is_data(folder: Path) -> bool:
    """Whether ``folder`` is the data folder of this project or of a copy of it."""
    return folder == DATA.resolve() or (folder.name == DATA.name and (folder.parent / "dvc.yaml").is_file())


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        UserError: names the option and what to do.
    """
    if not options.sheet and not options.images:
        raise UserError("nothing to write: pass --sheet FILE, --images FOLDER or --list")
    if options.sheet and options.sheet.suffix.lower() != ".png":
        raise UserError(f"{options.sheet}: a sheet is a PNG; pass a name that ends in .png")
    if options.sheet and options.sheet.is_dir():
        raise UserError(f"{options.sheet} is a folder: pass the name of a file for the sheet")
    if options.images and options.images.is_file():
        raise UserError(f"{options.images} is a file: pass a folder for the images")
    for path in (options.sheet, options.images):
        if path and any(_is_data(folder) for folder in (path.resolve(), *path.resolve().parents)):
            raise UserError(
                f"{path} is among the data, where a rendered image would pass for a real one: write elsewhere"
            )
    if options.masks and not options.sheet:
        raise UserError("--masks is for a sheet: pass --sheet FILE too (--images writes masks by itself)")
    if options.row:
        given = {"class": options.class_name, **{key: getattr(options, key) for key in ("family", *DEFAULTS)}}
        for name, value in given.items():
            if value is not None:
                raise UserError(f"--row {options.row} says which image to draw: leave --{name} out")
    elif options.manifest:
        raise UserError(f"--manifest {options.manifest} is where --row looks: pass --row too")
    if options.family and not options.class_name:
        raise UserError(f"--family {options.family} belongs to a class: pass --class too")


if __name__ == "__main__":
    sys.exit(main())
