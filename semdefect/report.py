"""A report in one HTML file that works offline: text, tables and pictures, on a phone too, light and dark."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from semdefect.atomic import replacing


@dataclass(frozen=True)
class Card:
    """A figure that is seen first: ``name``, ``value`` as text, and a ``note`` such as its interval."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        header: names of the columns.
        rows: as many cells each.
        caption: what it shows.
        folded: whether the reader has to open it.
        words: whether its cells hold sentences and no numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    folded: bool = False
    words: bool = False


@dataclass(frozen=True)
class Picture:
    """A PNG file that is embedded; ``wide`` ones are scrolled on a phone, not shrunk."""

    path: Path
    caption: str
    wide: bool = False

    @cached_property
    def data(self) -> str:
        """The file in base64."""
        return base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and pictures below it."""

    title: str
    text: Sequence[str] = ()
    grids: Sequence[Grid] = ()
    pictures: Sequence[Picture] = field(default=())


def write_report(title: str, lead: str, cards: Sequence[Card], sections: Sequence[Section], path: Path) -> None:
    """Write the report to ``path``. All text is escaped.

    Args:
        title: of the page.
        lead: its first paragraph.
        cards: figures above everything.
        sections: in the order of the table of contents.
        path: of the HTML file; an earlier one stays where a picture is missing.

    Raises:
        OSError: a picture cannot be read, or the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("semdefect", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.j2").render(title=title, lead=lead, cards=cards, sections=sections)
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
