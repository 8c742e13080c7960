"""The one way from an image file to the tensor that every model sees, in training and on the device.

    file -> first frame -> 8-bit gray -> upright -> 224 x 224 -> float32 in [0, 1]

Gray comes before the resize: one channel is cheaper to scale than four, and the result does not depend on how
the file stores its colors.
"""

import math
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from semdefect.edge.limits import Header, check_bytes, check_pixels, check_scans, in_turn, too_large
from semdefect.errors import UserError

#: Width and height of a model's input in pixels.
SIZE = 224

#: Standard deviation (full scale 1) under which an image shows nothing: beam blanked, shutter closed, wrong file.
BLANK = 0.01

#: File name endings that count as an image when a folder is listed, in lower case.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

# Pillow reads some fifty formats, EPS by starting Ghostscript among them. A microscope writes none of those.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")

#: Largest values of 8, 10, 12, 14 and 16 bits.
_WHITES = (255, 1023, 4095, 16383, 65535)

#: Deep images are converted about so many pixels at a time.
_BAND = 2**20

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def list_images(folder: str | Path) -> list[Path]:
    """The images directly in ``folder``, sorted by path, without hidden files; empty when there are none.

    Raises:
        UserError: when the folder is missing, is a file, or may not be read.
    """
    folder = Path(folder)
    try:
        return sorted(entry for entry in folder.iterdir() if _is_listed(entry))
    except FileNotFoundError:
        raise UserError(f"{folder}: no such folder; check the path") from None
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file; pass the folder that holds the images") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be listed ({_reason(error)}); check its permissions") from None


def open_gray(path: str | Path) -> Image.Image:
    """Read the first frame of an image file as 8-bit gray (mode ``L``), upright, at its own size.

    See ``to_gray`` for what becomes of color, depth and transparency.

    Raises:
        UserError: when the file is missing, empty, no image, damaged, larger than `semdefect.edge.limits` allows, or
            may not be read. Nothing else is raised, whatever the bytes of the file.
    """
    path = Path(path)
    _check_is_file(path)
    # Given a path instead of an open file, Pillow maps uncompressed TIFFs into memory: it then garbles those
    # with an orientation, and a file that shrinks meanwhile kills the process.
    with (
        _damage_as_user_error(str(path)),
        path.open("rb") as file,
        _opened(file, str(path)) as image,
        in_turn(image, file),
    ):
        check_scans(image, path)
        gray = to_gray(image, str(path))
        if gray is not image:
            image.close()  # its pixels go before the next large image takes its turn
        return gray


def to_gray(image: Image.Image, name: str = "the image") -> Image.Image:
    """A Pillow image of any mode as 8-bit gray (mode ``L``), turned upright where its EXIF data says so.

    - Color: ITU-R 601 luma.
    - 16-bit and 32-bit integers: linear from the narrowest range of 8, 10, 12, 14 or 16 bits that holds the largest
      value, since cameras store their own depth in 16 bits; what lies outside 0..65535 is clipped. (Pillow's own
      conversion clips everything above 255 to white.)
    - Floats: linear from 0..1, 0..255 or 0..65535, the narrowest of the three that holds the largest value.
    - Transparency: pixels keep the color stored under them; fully transparent ones, whose color means
      nothing, become black, unless the whole image is transparent. Blending with a background would draw a
      rim around images whose editor feathered their edges, and a rim that is found in some classes only is
      something a network learns.

    An image that is 8-bit gray and upright already comes back itself, not a copy. What comes back is upright for good:
    given to this function again, it stays as it is.

    ``name`` is what error messages call the image.

    Raises:
        UserError: when the image has no pixels, more than `semdefect.edge.limits` allows, or cannot be
            decoded.
    """
    with _damage_as_user_error(name):
        check_pixels(image, name)
        image.load()
        gray = _gray(image)
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
        if turn is None:
            return gray
        upright = gray.transpose(turn)
        upright.info.clear()  # it holds the EXIF data of the stored image, by which it would be turned again
        return upright


def to_pixels(gray: Image.Image, size: int = SIZE) -> NDArray[np.uint8]:
    """An image of mode ``L`` as uint8 ``(size, size)``, stretched to the square where it is none."""
    if gray.mode != "L":
        raise ValueError(f"expected an image of mode L, got {gray.mode}: use open_gray or to_gray")
    if gray.size != (size, size):
        # reducing_gap averages whole blocks first: half the time for at most 2 gray levels of difference.
        gray = gray.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(gray, dtype=np.uint8)


def to_tensor(gray: Image.Image) -> NDArray[np.float32]:
    """An image of mode ``L`` as a model's input: float32 ``[1, 1, 224, 224]`` in [0, 1], pixels / 255."""
    return np.divide(to_pixels(gray)[np.newaxis, np.newaxis], np.float32(255), dtype=np.float32)  # one pass, no copy


def is_blank(tensor: NDArray[np.float32]) -> bool:
    """Whether an image ``[1, 1, 224, 224]`` shows nothing."""
    # An eighth of the rows cannot deviate more than all of them do: what they show proves most images not blank, in
    # half the time. Twice BLANK leaves room for rounding.
    if float(tensor[..., ::8, :].std()) / math.sqrt(8) > 2 * BLANK:
        return False
    return float(tensor.std()) < BLANK


def _is_listed(entry: Path) -> bool:
    return entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") and not entry.is_dir()


def _gray(image: Image.Image) -> Image.Image:
    """The loaded ``image`` in mode ``L``, not yet turned upright."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _by_bands(image, _gray_of_integers(image))
    if image.mode == "F":
        return _by_bands(image, _gray_of_floats(image))
    if image.mode == "LAB":  # Pillow knows no way from LAB to gray, and needs none: lightness is a band
        return image.getchannel("L")
    if image.has_transparency_data:
        mode = "LA" if image.mode in ("L", "LA", "La") else "RGBA"
        with_alpha = image if image.mode == mode else image.convert(mode)
        seen = with_alpha.getchannel("A").point([0] + [255] * 255)
        gray = with_alpha.convert("L")
        if seen.getextrema() == (0, 0):  # an alpha channel that was never filled, as in some 32-bit BMPs
            return gray
        return Image.composite(gray, Image.new("L", gray.size, 0), seen)
    if image.mode in ("CMYK", "HSV"):
        image = image.convert("RGB")
    return image if image.mode == "L" else image.convert("L")


def _bands(image: Image.Image) -> Iterator[NDArray[Any]]:
    """The values of ``image`` from top to bottom, some rows at a time: a copy of all would be the largest there is."""
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))


def _by_bands(image: Image.Image, convert: Callable[[NDArray[Any]], NDArray[np.uint8]]) -> Image.Image:
    """``convert`` for all values of ``image``."""
    gray = np.empty((image.height, image.width), np.uint8)
    top = 0
    for band in _bands(image):
        gray[top : top + len(band)] = convert(band)
        top += len(band)
    return Image.fromarray(gray)


def _gray_of_integers(image: Image.Image) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """How the integers of ``image``, whose depth is unknown, become uint8."""
    largest = min(max(int(band.max()) for band in _bands(image)), 65535)
    white = next(white for white in _WHITES if largest <= white)
    grays = ((np.arange(white + 1, dtype=np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    return lambda band: grays[np.clip(band, 0, white)]


def _gray_of_floats(image: Image.Image) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """How the floats of ``image``, whose range is unknown, become uint8: no number is black, infinity white."""
    largest = max(float(np.max(band, where=np.isfinite(band), initial=0)) for band in _bands(image))
    white = 1.0 if largest <= 1 else 255.0 if largest <= 255 else 65535.0

    def convert(band: NDArray[Any]) -> NDArray[np.uint8]:
        scaled = np.clip(np.nan_to_num(band, nan=0.0, posinf=white, neginf=0.0), 0, white) * (255 / white)
        return np.rint(scaled).astype(np.uint8)

    return convert


def _check_is_file(path: Path) -> None:
    """Refuse whatever cannot be an image for reasons that the file system knows."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)}); check path and permissions") from None
    if stat.S_ISDIR(status.st_mode):
        raise UserError(f"{path}: is a folder; pass an image file")
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is a device or a pipe; pass an image file")
    if status.st_size == 0:
        raise UserError(f"{path}: is empty (0 bytes); copy or save it again")


def _opened(file: BinaryIO, name: str) -> Image.Image:
    """The image of a file of which Pillow has read only the header, and that may be decoded."""
    check_bytes(file, name)
    header = Header(file, name)
    image = Image.open(cast(BinaryIO, header), formats=_FORMATS)
    header.opened(image)
    check_pixels(image, name)
    return image


@contextmanager
def _damage_as_user_error(name: str) -> Iterator[None]:
    """Turn what Pillow raises on foreign or damaged bytes into one sentence about ``name``.

    Pillow's decoders let through OSError, SyntaxError, ValueError, struct.error, zlib.error, MemoryError and
    more, hence ``Exception``.
    """
    try:
        yield
    except UserError:
        raise
    except PermissionError:
        raise UserError(f"{name}: may not be read (permission denied); change its permissions") from None
    except UnidentifiedImageError:
        formats = "PNG, JPEG, BMP, GIF, TIFF or WebP"
        raise UserError(f"{name}: is no image, or its header is damaged; save it as {formats}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise too_large(name) from None
    except Exception as error:
        raise UserError(f"{name}: is cut off or damaged ({_reason(error)}); copy or save it again") from error


def _reason(error: Exception) -> str:
    """What went wrong, short and on one line, to stand inside a sentence."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:120].rstrip(".")
