"""Whether a model file is the one that was written: its SHA-256 against a list beside it, or against one given by hand.

The list is ``SHA256SUMS``, which ``sha256sum --check SHA256SUMS`` reads too. It lies beside the files and shows a file
that was changed, cut off or mixed up. Whoever can write into the folder can change both: against them, keep the hash
elsewhere and pass it (``--sha256``).
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from semdefect.errors import UserError

#: Name of the list.
SUMS = "SHA256SUMS"

#: A list has some lines; of a longer file, the end is not read.
_MOST_BYTES = 2**20


def write_sums(files: Sequence[Path]) -> None:
    """Write the list of ``files``, which lie in one folder, beside them; whole or not at all."""
    _write(files[0].with_name(SUMS), {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files})


def check_listed(folder: Path) -> None:
    """Refuse a ``folder`` in which a file of the list is not what was written.

    Raises:
        UserError: as `check_digest`.
    """
    for name in _listed(folder / SUMS) or {}:
        if (folder / name).is_file():
            check_digest(folder / name, hashlib.sha256((folder / name).read_bytes()).hexdigest())


def replace_sum(path: Path, digest: str) -> None:
    """Give the file ``path`` this ``digest`` in the list beside it. Other lines stay: no other file becomes good by it.

    Raises:
        UserError: the list is damaged.
    """
    sums = path.with_name(SUMS)
    _write(sums, (_listed(sums) or {}) | {path.name: digest})


def _write(sums: Path, digests: dict[str, str]) -> None:
    from semdefect.atomic import replacing  # what only reads needs none of it

    with replacing(sums) as temporary:
        lines = [f"{digest}  {name}\n" for name, digest in sorted(digests.items())]
        temporary.write_text("".join(lines), encoding="utf-8", newline="\n")


def check_digest(path: Path, found: str, allowed: Collection[str] = ()) -> None:
    """Refuse the file ``path`` of hash ``found`` where it is not what was written.

    Args:
        path: for messages, and to find the list beside it.
        found: its SHA-256, 64 lower-case hexadecimal digits.
        allowed: hashes that it may have; where empty, what the list beside it says, and anything where there is none.
            Where the path is a link to another folder, what the lists in both folders say.

    Raises:
        UserError: it has another hash, or the list does not name it or is damaged.
    """
    if allowed:
        if found not in {digits.lower() for digits in allowed}:
            raise UserError(f"{path}: its SHA-256 is {found}, which is not what was asked for; fetch the file again")
        return
    target = path.resolve()
    beside, linked = target.parent == path.parent.resolve(), target.name != path.name
    if not (beside and linked):  # a link within a folder goes by the name of its file alone
        _check_listed(path, found)
    if linked or not beside:
        _check_listed(target, found)


def _check_listed(path: Path, found: str) -> None:
    sums = path.with_name(SUMS)
    listed = _listed(sums)
    if listed is None:
        return
    if path.name not in listed:
        raise UserError(f"{path}: {sums} does not list it; take another model, or add it with sha256sum")
    if listed[path.name] != found:
        raise UserError(
            f"{path}: has been changed since {sums} was written; fetch both again, or run `dvc checkout`, in "
            f"semdefect/weights `git checkout semdefect/weights`"
        )


def _listed(sums: Path) -> dict[str, str] | None:
    """File name to hash; None where there is no list."""
    broken = UserError(f"{sums}: is no list of SHA-256 sums; fetch it again, or write it with sha256sum")
    try:
        if sums.exists() and not sums.is_file():  # opening a pipe waits for who writes into it
            raise broken
        with sums.open("rb") as file:
            content = file.read(_MOST_BYTES)
        lines = content.decode("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError):
        raise broken from None
    listed = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if not match:
            raise broken
        listed[match[2]] = match[1].lower()
    return listed
