"""Seeded damage to bytes: what a bad cable, a careless program or an attacker makes of a valid file."""

import re
import struct
import zlib
from collections.abc import Callable, Sequence

from numpy.random import Generator

#: Numbers that programs get wrong.
EXTREMES = (0, 1, 2, 255, 256, 32767, 65535, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)

#: Pieces that mean something to readers of CSV, YAML or JSON.
PIECES = (
    "\0", "\ufeff", '"', "'", ",", "\n", "\r", "\t", ";", "{", "}", "[", "]", ": ", "- ", "? ", "|", ">", "#", "%",
    "../", "/etc/passwd", "~", "null", "true", "nan", ".inf", "-1", "1e309", "0x7fffffff", "9" * 5000, "2026-99-99",
    "&a ", "*a", "&a [*a]", "<<: ", "!!python/object/apply:os.system ['true']", "!!binary x", "!!bool x",
    "!!int ''", "!!timestamp x", "[" * 3000, "{a: " * 1000, "é", "\u2028", "٣", "\x85", "x" * 20_000, "x" * 200_000,
    "1:2:3:4:5",
)  # fmt: skip

#: Length of a header of a tar archive, and where in it its sum stands.
_HEADER, _SUM = 512, slice(148, 156)

Mutation = Callable[[bytearray, Generator], None]


def _place(content: bytearray, rng: Generator) -> int:
    """A position, in half of the cases within the header."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 128)
    return int(rng.integers(0, max(end, 1)))


def _span(content: bytearray, rng: Generator) -> slice:
    begin = _place(content, rng)
    return slice(begin, begin + int(rng.integers(1, 2 + int(len(content) * rng.random() ** 3))))


def flip(content: bytearray, rng: Generator) -> None:
    """Flip a bit."""
    if content:
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))


def noise(content: bytearray, rng: Generator) -> None:
    """Overwrite a part with random bytes."""
    span = _span(content, rng)
    content[span] = rng.bytes(len(content[span]))


def extreme(content: bytearray, rng: Generator) -> None:
    """Overwrite 1, 2, 4 or 8 bytes with a number from `EXTREMES`."""
    size = int(rng.choice([1, 2, 4, 8]))
    begin = _place(content, rng)
    order = "little" if rng.random() < 0.5 else "big"
    number = EXTREMES[int(rng.integers(len(EXTREMES)))] % 256**size
    content[begin : begin + size] = number.to_bytes(size, order)


def truncate(content: bytearray, rng: Generator) -> None:
    """Cut the end off."""
    del content[int(rng.integers(0, len(content) + 1)) :]


def remove(content: bytearray, rng: Generator) -> None:
    """Take a part out."""
    del content[_span(content, rng)]


def repeat(content: bytearray, rng: Generator) -> None:
    """Write a part several times."""
    span = _span(content, rng)
    content[span.start : span.start] = content[span] * int(rng.integers(1, 20))


def swap(content: bytearray, rng: Generator) -> None:
    """Move a part to another place."""
    span = _span(content, rng)
    part = content[span]
    del content[span]
    begin = _place(content, rng)
    content[begin:begin] = part


BYTES: tuple[Mutation, ...] = (flip, noise, extreme, extreme, truncate, remove, repeat, swap)


def mutated(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """``content`` after one to six mutations, mostly one; in a tenth of the cases spliced with one of ``others``."""
    damaged = bytearray(content)
    if rng.random() < 0.1:
        other = others[int(rng.integers(len(others)))]
        damaged[_place(damaged, rng) :] = other[int(rng.integers(len(other))) :]
    for _ in range(min(int(rng.geometric(0.5)), 6)):
        BYTES[int(rng.integers(len(BYTES)))](damaged, rng)
    return bytes(damaged)


def mutated_png(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """`mutated`, mostly with checksums that fit again, so that the damage comes to where it is decoded."""
    damaged = mutated(content, others, rng)
    return with_checksums(damaged) if rng.random() < 0.7 else damaged


def with_checksums(content: bytes) -> bytes:
    """A PNG file with the right CRC for each chunk, as far as its chunks can be followed."""
    fixed, position = bytearray(content), 8
    while position + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, position)
        end = position + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[position + 4 : end]))
        position = end + 4
    return bytes(fixed)


def mutated_archive(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """`mutated`, the header of the first member in half of the cases; sums of headers mostly fit again."""
    if rng.random() < 0.5:
        damaged = mutated(content, others, rng)
    else:
        damaged = mutated(content[:_HEADER], [content], rng)[:_HEADER].ljust(_HEADER, b"\0") + content[_HEADER:]
    return with_sums(damaged) if rng.random() < 0.7 else damaged


def with_sums(content: bytes) -> bytes:
    """A tar archive with the right sum for each header, which is a block that says ``ustar``, or the first."""
    fixed = bytearray(content)
    for begin in range(0, len(fixed) - _HEADER + 1, _HEADER):
        header = fixed[begin : begin + _HEADER]
        if begin == 0 or header[257:262] == b"ustar":
            header[_SUM] = b" " * 8
            fixed[begin : begin + _HEADER] = header[: _SUM.start] + b"%06o\0 " % sum(header) + header[_SUM.stop :]
    return bytes(fixed)


def mutated_text(content: bytes, others: Sequence[bytes], rng: Generator) -> bytes:
    """A text after one to four mutations of its words and lines, or of its bytes."""
    if rng.random() < 0.2:
        return mutated(content, others, rng)
    text = content.decode("utf-8")
    for _ in range(int(rng.integers(1, 5))):
        text = _changed(text, rng)
    return text.encode("utf-8", "surrogatepass")


def _changed(text: str, rng: Generator) -> str:
    words = [match.span() for match in re.finditer(r"[\w./-]+", text)] or [(0, 0)]
    begin, end = words[int(rng.integers(len(words)))]
    kind = int(rng.integers(5))
    if kind == 0:  # a word becomes a number
        return text[:begin] + str(EXTREMES[int(rng.integers(len(EXTREMES)))] * int(rng.choice([-1, 1]))) + text[end:]
    if kind == 1:  # or something with a meaning
        return text[:begin] + PIECES[int(rng.integers(len(PIECES)))] + text[end:]
    if kind == 2:  # which may come in between as well
        return text[:begin] + PIECES[int(rng.integers(len(PIECES)))] + text[begin:]
    lines = text.split("\n")
    number = int(rng.integers(len(lines)))
    if kind == 3:  # a line goes
        del lines[number]
    else:  # or comes again
        lines[number:number] = [lines[number]] * int(rng.integers(1, 4))
    return "\n".join(lines)
