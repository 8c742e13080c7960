"""The review folder: images that a person decides on by moving them into a class folder, on their way to training.

    review/wafer.0123456789ab.png     under review, a copy: the tool owns its folder
    review/wafer.0123456789ab.json    what the model said of it
    review/bridge/                    one folder a class; an image in it is decided

Names carry the beginning of the content's SHA-256, so that two images of one name stand side by side, and one image
that comes twice is one file.
"""

import filecmp
import glob
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from semdefect import CLASSES
from semdefect.atomic import named, remove_unfinished, replacing, write_json
from semdefect.edge.classifier import Prediction
from semdefect.edge.image import list_images, open_gray
from semdefect.errors import UserError

#: Hexadecimal digits of an image's SHA-256 in its name.
DIGITS = 12

#: Bytes of the original name that are kept; file systems allow 255 for the whole.
LONGEST_STEM = 150


class SourceChangedError(Exception):
    """The image changed or went before it was copied.

    Attributes:
        why: what the system says where it could not be read; empty where it changed or is gone.
    """

    def __init__(self, why: str = "") -> None:
        """For one image."""
        super().__init__(why)
        self.why = why


class ReviewFolder:
    """Where images under review are put."""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        """Create ``folder`` with one folder a class, where they are missing."""
        self.folder = folder
        remove_unfinished(folder, recursive=False)
        for name in classes:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def put(self, path: Path, prediction: Prediction, unchanged: Callable[[], bool]) -> None:
        """Copy an image here, with the prediction and where it comes from in a JSON file beside it.

        An image that is here already, decided or not, stays as it is. The image appears last, and whole.

        Raises:
            SourceChangedError: when ``unchanged``, asked after reading, says no, or the image is gone or is not read.
        """
        try:
            content = path.read_bytes()  # once: what is named by its hash is what is written
        except FileNotFoundError:
            raise SourceChangedError from None
        except OSError as error:
            raise SourceChangedError(error.strerror or str(error)) from None
        if not unchanged():
            raise SourceChangedError
        name = _content_name(path, hashlib.sha256(content).hexdigest())
        if (self.folder / name).exists() or any(self.folder.glob(f"*/{glob.escape(name)}")):
            return
        with replacing(self.folder / name) as temporary:
            temporary.write_bytes(content)
            write_json(_side_car(self.folder / name), {**asdict(prediction), "source": str(path)}, digits=6)


@dataclass
class Adopted:
    """What ``adopt`` did.

    Attributes:
        images: class to number of images that now lie in its folder.
        undecided: number of images that wait for a decision.
        refused: why images were left where they are, or could not be removed there, one sentence each.
    """

    images: Counter[str] = field(default_factory=Counter)
    undecided: int = 0
    refused: list[str] = field(default_factory=list)


def adopt(review: Path, real: Path) -> Adopted:
    """Move the decided images of ``review`` into ``real/<class>/``, and remove what the model had said of them.

    Each appears there whole before it goes from ``review``. Interrupted, it can be called again. What killed calls left
    unfinished is removed first.

    Raises:
        UserError: when a folder is missing, or images lie in a folder that is no class. Nothing has been moved.
    """
    adopted = Adopted(undecided=len(list_images(review)))
    if not real.is_dir():
        raise UserError(f"{real}: no such folder; run this in the root of the repository, or pass --to FOLDER")
    for label in CLASSES:
        remove_unfinished(real / label, recursive=False)
    for image in _decided(review):
        try:
            _copy(image, real)
            adopted.images[image.parent.name] += 1
            for left in (image, _side_car(image), _side_car(review / image.name)):
                left.unlink(missing_ok=True)
        except UserError as error:
            adopted.refused.append(str(error))
        except OSError as error:  # a full disk, say: what was moved before has to be told all the same
            adopted.refused.append(f"{error.filename or image}: {error.strerror or error}")
    return adopted


def content_name(path: Path) -> str:
    """The name of an image with the beginning of its content's SHA-256 in it, readable and not too long."""
    with named(path), path.open("rb") as file:
        return _content_name(path, hashlib.file_digest(file, "sha256").hexdigest())


def _content_name(path: Path, sha256: str) -> str:
    digits = sha256[:DIGITS]
    stem = "".join(sign if sign.isprintable() else "_" for sign in path.stem.removesuffix(f".{digits}"))
    return f"{os.fsencode(stem)[:LONGEST_STEM].decode(errors='ignore')}.{digits}{path.suffix}"


def _decided(review: Path) -> list[Path]:
    images = []
    for folder in sorted(entry for entry in review.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        found = list_images(folder)
        if found and folder.name not in CLASSES:
            raise UserError(f"{folder}: is no class; move its images to a folder named {', '.join(CLASSES)}")
        images += found
    return images


def _copy(image: Path, real: Path) -> None:
    """Copy one image to where it belongs, or say in a UserError why not."""
    label = image.parent.name
    open_gray(image)
    name = content_name(image)
    tracked = real / f"{label}.dvc"
    if tracked.exists() and not ((real / label).is_dir() and list_images(real / label)):
        # dvc add would take the folder as it is then, and forget the images that were not pulled
        raise UserError(f"{image}: the images of {real / label} are not here; run `dvc pull {tracked}` first")
    digits = Path(name).stem.rpartition(".")[2]
    for other in real.glob(f"*/*.{digits}.*"):
        if other.parent.name != label and other.parent.name in CLASSES and not other.name.startswith("."):
            raise UserError(f"{image}: is already {other}; decide on one class and remove the other file")
    target = real / label / name
    if not target.exists():
        with replacing(target) as temporary:
            shutil.copyfile(image, temporary)
    elif not filecmp.cmp(image, target, shallow=False):
        raise UserError(f"{image}: {target} is another image of the same name; rename one of them")


def _side_car(image: Path) -> Path:
    return image.with_suffix(".json")
