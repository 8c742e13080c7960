"""Images inside tar archives: ``shard-000001.tar/bridge/00042_rendered.png`` is read as if the archive were a folder.

Plain, uncompressed tar, so that any image is one read at a known place, and any other tool opens it (`tar`,
WebDataset). The places are found by walking the headers, once for each archive and process.
"""

import io
import os
import tarfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from semdefect.edge.image import open_gray, to_gray
from semdefect.errors import UserError

#: Archives whose places of images are remembered: 0.2 MB each for a thousand images.
REMEMBERED = 128
#: Larger members are refused unread: a picture of 1024 x 1024 gray values takes 1 MiB at most.
MAX_MEMBER = 2**22
#: Archives of more files and folders are refused: each takes a header to walk, and a name to remember.
MAX_MEMBERS = 20_000
_BLOCK = tarfile.BLOCKSIZE


def open_image(path: Path) -> Image.Image:
    """`open_gray` of a file, or of a member of an archive where a part of ``path`` is a .tar file.

    Raises:
        UserError: as `open_gray`; or the archive is damaged, or has no such member.
    """
    archive = next((part for part in path.parents if part.suffix == ".tar" and part.is_file()), None)
    if archive is None:
        return open_gray(path)
    return decode(read_member(archive, path.relative_to(archive).as_posix()), str(path))


def decode(png: bytes, name: str) -> Image.Image:
    """A PNG file's bytes as 8-bit gray (mode ``L``), with the pixels that `open_gray` gives; messages call it ``name``.

    Raises:
        UserError: it is no PNG file, or damaged.
    """
    try:
        image = Image.open(io.BytesIO(png), formats=("PNG",))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        raise UserError(f"{name}: is no PNG file, or its header is damaged; write the archive again") from None
    with image:
        return to_gray(image, name)


def read_member(archive: Path, member: str) -> bytes:
    """The bytes of a ``member`` of an ``archive``.

    Raises:
        UserError: the archive is missing or damaged, has no such member, or one larger than `MAX_MEMBER`.
    """
    try:
        with archive.open("rb") as file:
            status = os.fstat(file.fileno())
            known = members(archive, status.st_size, status.st_mtime_ns)
            if member not in known:
                raise UserError(f"{archive} has no {member}: write the archive again, or take the manifest beside it")
            offset, size = known[member]
            if size > MAX_MEMBER:
                raise UserError(
                    f"{archive}: {member} is larger than {MAX_MEMBER // 2**20} MiB, which no image of a data set is; "
                    f"write the archive again"
                )
            return os.pread(file.fileno(), size, offset)
    except OSError as fault:
        raise UserError(f"{archive}: {fault.strerror or fault}; check path and permissions") from None


@lru_cache(maxsize=REMEMBERED)
def members(archive: Path, length: int, changed: int) -> dict[str, tuple[int, int]]:
    """Name → place and size in bytes of every file in an ``archive`` of ``length`` bytes.

    `tarfile` would follow sizes that lead backwards, and so never end on some damaged archives: here every header has
    to lie behind the one before and all that it announces inside the file.

    Args:
        changed: the file's time stamp, so that an archive that was written again is read again.

    Raises:
        UserError: it is no plain tar archive, is cut off, or has more than `MAX_MEMBERS` headers.
    """
    found: dict[str, tuple[int, int]] = {}
    offset = 0
    with archive.open("rb", buffering=0) as file:
        for _ in range(MAX_MEMBERS + 1):  # one more, for the end
            block = os.pread(file.fileno(), _BLOCK, offset)
            if len(block) == _BLOCK and not any(block):
                return found
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.TarError:
                raise _damaged(archive, offset) from None
            start = offset + _BLOCK
            if not 0 <= header.size <= length - start or not (header.isreg() or header.isdir()):
                raise _damaged(archive, offset)
            if header.isreg():
                found[header.name] = (start, header.size)
            offset = start + -(-header.size // _BLOCK) * _BLOCK
    raise UserError(f"{archive}: has more than {MAX_MEMBERS} entries; write it with fewer --images-per-shard")


def _damaged(archive: Path, offset: int) -> UserError:
    return UserError(f"{archive}: is no plain tar archive, or is cut off or damaged (at byte {offset}); write it again")


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of ``files``, name and content each, sorted by name; equal files give equal bytes.

    No owner, no time, no platform: mode 644, and zeros.
    """
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(files):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return content.getvalue()
