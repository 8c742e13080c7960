"""The few pieces of GitHub's Markdown that reports are made of; GitLab reads them alike."""

from collections.abc import Sequence
from typing import TypeVar

Row = TypeVar("Row")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first ``left`` columns are text, the others figures; cells may hold any text on one line."""
    lines = [_line(header), _line(["---"] * left + ["---:"] * (len(header) - left))]
    return "\n".join([*lines, *(_line([cell(text) for text in row]) for row in rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def cell(text: str) -> str:
    """``text`` on one line, with nothing in it that ends a cell or begins a tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """``text`` in the type of code; for file names and keys."""
    return f"`{text.replace('`', chr(39))}`"


def folded(summary: str, body: str) -> str:
    """``body`` that shows when a reader opens it."""
    return f"<details><summary>{cell(summary)}</summary>\n\n{body}\n\n</details>"


def limited(rows: Sequence[Row], most: int) -> tuple[list[Row], str]:
    """The first ``most`` rows, and a sentence that says how many are left out; empty where none are."""
    rest = len(rows) - most
    return list(rows[:most]), f"\n\nand {rest} more" if rest > 0 else ""
