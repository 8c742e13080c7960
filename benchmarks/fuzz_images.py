"""Valid image files of every kind that semdefect reads, and files that are made to be dear."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

#: What a TIFF may be compressed by.
COMPRESSIONS = ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "zstd", "lzma")

#: A little less than the 100 megapixels that are allowed.
SIDE = 9900


def samples() -> dict[str, list[bytes]]:
    """Small valid files by format; always the same."""
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8))
    smooth = gray.resize((48, 36), Image.Resampling.BICUBIC)
    deep = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50)
    floats = Image.fromarray(np.linspace(-1, 300, 1200, dtype=np.float32).reshape(30, 40))
    frames = {"save_all": True, "append_images": [gray.rotate(90), gray.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "lying on its side"
    color, alpha, palette = smooth.convert("RGB"), smooth.convert("RGBA"), smooth.convert("P")
    return {
        "PNG, 8 bit": [
            _saved("PNG", gray, exif=exif),
            _saved("PNG", color),
            _saved("PNG", alpha),
            _saved("PNG", palette, transparency=3),
            _saved("PNG", gray.convert("1")),
            _saved("PNG", gray, **frames),
        ],
        "PNG, 16 bit": [_saved("PNG", deep)],
        "JPEG": [
            _saved("JPEG", smooth, exif=exif),
            _saved("JPEG", color, progressive=True),
            _saved("JPEG", smooth.convert("CMYK")),
            _saved("MPO", color, **{"save_all": True, "append_images": [color]}),
        ],
        "BMP": [_saved("BMP", image) for image in (gray, color, gray.convert("1"), palette)] + [rle(40, 30)],
        "GIF": [_saved("GIF", gray, comment=b"a comment"), _saved("GIF", palette, **frames)],
        "TIFF": [_saved("TIFF", image, exif=exif) for image in (gray, color, alpha, deep, floats, palette)]
        + [_saved("TIFF", gray.convert("1"), compression="group4"), _saved("TIFF", smooth.convert("LAB"))]
        + [_saved("TIFF", color, compression="jpeg")],
        "TIFF, compressed": [_saved("TIFF", image, compression=way) for way in COMPRESSIONS for image in (gray, deep)],
        "TIFF, several pages": [_saved("TIFF", gray, **frames), _saved("TIFF", deep, compression="tiff_lzw", **frames)],
        "WebP": [
            _saved("WEBP", alpha, exif=exif, lossless=True),
            _saved("WEBP", color),
            _saved("WEBP", gray, **frames),
        ],
    }  # fmt: skip


def _saved(name: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def rle(width: int, height: int) -> bytes:
    """A run-length encoded BMP whose rows hold one pixel each and end early."""
    body = bytes([1, 7, 0, 0]) * height + bytes([0, 1])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0) + bytes(1024)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(body), 0, 0, 14 + len(header)) + header + body


def _flat(mode: str, name: str, side: int = SIDE, **options: object) -> bytes:
    color = (1, 2, 3, 4)[: len(mode)] if mode in ("RGB", "RGBA", "CMYK") else 100
    return _saved(name, Image.new(mode, (side, side), color), **options)


def _noise(name: str, side: int, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    return _saved(name, Image.fromarray(pixels), **options)


def _scans() -> bytes:
    """A progressive JPEG that draws its last scan fifty times."""
    content = _flat("L", "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 50 + content[-2:]


def _tiff(tags: list[tuple[int, int, int, int]], data: bytes) -> bytes:
    """A TIFF file of one directory: each tag, its type, its count, its value or where that is; ``data`` is at 8."""
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def _tile() -> bytes:
    """A TIFF of 64 x 64 in a tile of 60 000 x 60 000."""
    data = zlib.compress(bytes(2**24), 9)
    sizes = [(256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    return _tiff([*sizes, (322, 4, 1, 60_000), (323, 4, 1, 60_000), (324, 4, 1, 8), (325, 4, 1, len(data))], data)


def _tags() -> bytes:
    """A TIFF whose 60 000 tags all name the same megabyte."""
    sizes = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    more = [(number, 1, 2**20, 8) for number in range(1000, 61_000)]
    return _tiff([*sizes, (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 64), *more], bytes(2**20))


def _comments() -> bytes:
    """A GIF with eight megabytes of comments before its image."""
    content = _saved("GIF", Image.new("L", (8, 8)))
    begin = content.index(b",", 13 + 3 * 2 ** ((content[10] & 7) + 1))
    return content[:begin] + (b"!\xfe" + (b"\xff" + bytes(255)) * 33_000 + b"\0") + content[begin:]


def _text() -> bytes:
    """A PNG with texts that are a thousand times as large as the file."""
    content = _saved("PNG", Image.new("L", (8, 8)))
    chunk = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26), 9))
    return content[:33] + chunk * 20 + content[33:]


def _chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _strips(count: int) -> bytes:
    """A TIFF of ``count`` strips of one pixel, all the same byte."""
    places, sizes = (struct.pack("<I", value) * count for value in (8, 1))
    size = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    return _tiff(
        [*size, (273, 4, count, 16), (278, 4, 1, 1), (279, 4, count, 16 + 4 * count)], bytes(8) + places + sizes
    )


def _webp(more: bytes) -> bytes:
    """A small WebP with ``more`` behind its pixels."""
    content = _saved("WEBP", Image.linear_gradient("L").resize((8, 8)), lossless=True, xmp=b"x") + more
    return content[:4] + struct.pack("<I", len(content) - 8) + content[8:]


def _inserted(name: str, what: bytes, mark: bytes, before: int = 0) -> bytes:
    """A small image with something so many bytes before the last place in its file where ``mark`` stands."""
    content = _saved(name, Image.linear_gradient("L").resize((8, 8)))
    place = content.rindex(mark) - before
    return content[:place] + what + content[place:]


#: Small images with so many things beside their pixels, by what these are.
CROWDED: dict[str, Callable[[int], bytes]] = {
    "JPEG, segments": lambda count: _inserted("JPEG", b"\xff\xe5\0\x02" * count, b"\xff\xdb"),
    "JPEG, comments": lambda count: _inserted("JPEG", b"\xff\xfe\0\x02" * count, b"\xff\xdb"),
    "JPEG, fill bytes": lambda count: _inserted("JPEG", b"\xff" * count, b"\xff\xdb"),
    "JPEG, Exif": lambda count: _inserted(
        "JPEG", (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * (count // 1000), b"\xff\xdb"
    ),
    "PNG, chunks": lambda count: _inserted("PNG", _chunk(b"prVt") * count, b"IDAT", 4),
    "PNG, chunks behind": lambda count: _inserted("PNG", _chunk(b"prVt") * count, b"IEND", 4),
    "PNG, empty data": lambda count: _inserted("PNG", _chunk(b"IDAT") * count, b"IEND", 4),
    "GIF, extensions": lambda count: _inserted("GIF", b"!\xf0\x01a\0" * count, b",\0\0\0\0\x08"),
    "GIF, short comments": lambda count: _inserted("GIF", b"!\xfe" + b"\x01a" * count + b"\0", b",\0\0\0\0\x08"),
    "GIF, zeros": lambda count: _inserted("GIF", bytes(count), b",\0\0\0\0\x08"),
    "TIFF, strips": _strips,
    "WebP, chunks": lambda count: _webp(b"ABCD\0\0\0\0" * (5 * count)),
}

#: Files that ask for the most of what their format allows, by name. They are made when they are needed: some are large.
DEAR: dict[str, Callable[[], bytes]] = {
    "PNG, gray": lambda: _flat("L", "PNG"),
    "PNG, RGBA": lambda: _flat("RGBA", "PNG"),
    "PNG, 16 bit": lambda: _flat("I;16", "PNG"),
    "PNG, texts": _text,
    "JPEG, color": lambda: _flat("RGB", "JPEG"),
    "JPEG, noise": lambda: _noise("JPEG", SIDE, progressive=True),
    "JPEG, 50 scans": _scans,
    "BMP, run lengths": lambda: rle(SIDE, SIDE),
    "BMP, allowed run lengths": lambda: rle(2800, 2800),
    "GIF": lambda: _flat("L", "GIF"),
    "GIF, comments": _comments,
    "TIFF, floats": lambda: _flat("F", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, 16 bit": lambda: _flat("I;16", "TIFF", compression="tiff_lzw"),
    "TIFF, RGBA": lambda: _flat("RGBA", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, CMYK": lambda: _flat("CMYK", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF, large tile": _tile,
    "TIFF, tags": _tags,
    "WebP": lambda: _flat("RGB", "WEBP", lossless=True, method=0),
    "WebP, allowed": lambda: _flat("RGBA", "WEBP", 7000, lossless=True, method=0),
    "WebP, noise": lambda: _noise("WEBP", 7000, method=0),
} | {f"{name}, {count}": partial(make, count) for name, make in CROWDED.items() for count in (60_000, 3_000_000)}
