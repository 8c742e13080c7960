"""What an image file may cost to read, judged by its header before anything is decoded.

A file of a few kilobytes can ask for minutes and gigabytes. The bounds are those under which no file that Pillow reads
took more than 5 s of one core, or more than 1.3 GB (`python -m benchmarks.fuzz`, docs/security.md).
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from semdefect.errors import UserError

#: Images with more pixels are refused before decoding. Reading the largest takes up to 1.3 GB.
MAX_PIXELS = 100_000_000

#: Larger image files are refused unread: Pillow keeps what stands beside the pixels. 100 megapixels of 32 bits fit.
MAX_BYTES = 2**29

#: Fewer pixels are allowed where a pixel costs more: libwebp holds 16 bytes of each, and Pillow undoes the run lengths
#: of a BMP in Python.
MAX_WEBP_PIXELS = 50_000_000
MAX_RLE_PIXELS = 8_000_000

#: A JPEG goes over all of its pixels in each scan: a progressive one, and one with a scan for each colour. Usual are 1
#: to 10 scans.
MAX_SCANNED_PIXELS = 2_000_000_000
_SCAN = b"\xff\xda"

# Within a TIFF, libtiff counts the scans, of each strip or tile by itself, and stops above 100 unless told otherwise.
os.environ["LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER"] = str(MAX_SCANNED_PIXELS // MAX_PIXELS)

#: Reads, and bytes, of what stands before the pixels (in a PNG: reads of the whole file): segments, chunks, comments,
#: tags, through which Pillow goes one by one. A PNG of 512 MiB in chunks of 8 KiB takes 200 000 reads.
MAX_READS = 2**18
MAX_HEADER_BYTES = 2**24

#: A WebP file is read in one go, and libwebp takes 5 bytes for each byte of small chunks.
MAX_WEBP_BYTES = 2**27

#: A TIFF of more strips or tiles takes seconds, however small they are.
MAX_TILES = 2**17

#: Images with more pixels or bytes are decoded one at a time, however many threads decode.
_LARGE_PIXELS, _LARGE_BYTES = 10_000_000, 2**25
_large = threading.Lock()

# Pillow allocates images in blocks of 16 MiB, which glibc keeps for the thread that freed them, once it has seen one:
# four threads then hold the memory of four large images. Blocks above 32 MiB go back to the system at once.
Image.core.set_block_size(2**26)


def check_pixels(image: Image.Image, name: str) -> None:
    """Refuse an image by the size that its header claims.

    Raises:
        UserError: it has no pixels, or more than its format may have.
    """
    width, height = image.size
    if width < 1 or height < 1:
        raise UserError(f"{name}: has no pixels ({width} x {height}); save it again")
    if width * height > MAX_PIXELS:
        raise too_large(name)
    if image.format == "WEBP" and width * height > MAX_WEBP_PIXELS:
        raise UserError(f"{name}: is a WebP of more than {MAX_WEBP_PIXELS // 10**6} megapixels; save it as PNG or TIFF")
    if image.format == "BMP" and image.info.get("compression") in (1, 2) and width * height > MAX_RLE_PIXELS:
        raise UserError(
            f"{name}: is a run-length encoded BMP of more than {MAX_RLE_PIXELS // 10**6} megapixels; save it as PNG"
        )


def check_bytes(file: BinaryIO, name: str) -> None:
    """Refuse an image file by its length.

    Raises:
        UserError: it is longer than `MAX_BYTES`.
    """
    if os.fstat(file.fileno()).st_size > MAX_BYTES:
        raise UserError(f"{name}: is larger than {MAX_BYTES // 2**20} MiB; save it again, one image a file")


class Header:
    """A file for Pillow to open, of which it may read only so much.

    Once `opened`, only reads of a PNG are still counted, whose chunks lie between the pixels and behind them.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read ``file``, which messages call ``name``."""
        self._file, self._name = file, name
        self._counting, self._reads, self._bytes = True, MAX_READS, MAX_HEADER_BYTES

    def read(self, size: int = -1) -> bytes:
        """As of any file; only WebP is read all at once.

        Raises:
            UserError: too much was read, or the WebP file is larger than `MAX_WEBP_BYTES`.
        """
        if self._counting and size < 0 and os.fstat(self._file.fileno()).st_size > MAX_WEBP_BYTES:
            raise UserError(f"{self._name}: is larger than {MAX_WEBP_BYTES // 2**20} MiB; save it as PNG or TIFF")
        self._reads -= self._counting
        self._bytes -= self._counting * max(0, size)
        if self._reads < 0 or self._bytes < 0:
            raise UserError(f"{self._name}: holds more beside its pixels than any image needs; save it again as PNG")
        return self._file.read(size)

    def opened(self, image: Image.Image) -> None:
        """Allow what the pixels take.

        Raises:
            UserError: the image has more than `MAX_TILES` strips or tiles.
        """
        self._counting, self._bytes = image.format == "PNG", MAX_BYTES
        if len(getattr(image, "tile", ())) > MAX_TILES:
            raise UserError(f"{self._name}: has more than {MAX_TILES} strips or tiles; save it again as PNG")

    def __getattr__(self, name: str) -> Any:
        """Everything else is the file's."""
        return getattr(self._file, name)


def check_scans(image: Image.Image, path: Path) -> None:
    """Refuse a JPEG file that goes over its pixels too often.

    Raises:
        UserError: its pixels times its scans are more than `MAX_SCANNED_PIXELS`.
    """
    if image.format not in ("JPEG", "MPO"):
        return
    scans = path.read_bytes().count(_SCAN)  # within the data of a scan, 255 is followed by 0
    if scans * image.width * image.height > MAX_SCANNED_PIXELS:
        raise UserError(f"{path}: is a JPEG that draws its pixels {scans} times; save it as PNG, or with one scan")


@contextmanager
def in_turn(image: Image.Image, file: BinaryIO) -> Iterator[None]:
    """Decode within this block: large images one after the other, so that threads do not multiply what one may need."""
    if image.width * image.height <= _LARGE_PIXELS and os.fstat(file.fileno()).st_size <= _LARGE_BYTES:
        yield
        return
    with _large:
        yield


def too_large(name: str) -> UserError:
    """What to raise for an image of more than `MAX_PIXELS`."""
    return UserError(f"{name}: has more than {MAX_PIXELS // 10**6} megapixels; crop it or scale it down")
