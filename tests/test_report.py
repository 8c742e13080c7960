"""The report: complete, escaped, the same each time, and readable without a network."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from semdefect.report import Card, Grid, Picture, Section, write_report


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (8, 8), 99).save(path)
    return path


def written(path, *pictures):
    sections = [
        Section("Classes & <figures>", ["A paragraph of x < y."], [Grid(["class"], [["<b>via</b>"]], "by class")]),
        Section("Pictures", pictures=[Picture(each, "Errors <worst & 'first'>") for each in pictures]),
        Section("All parameters", grids=[Grid(["parameter"], [["base.seed"]], "open me", folded=True)]),
    ]
    write_report("A run", "What it is.", [Card("accuracy", "88.6 %", "85 to 92")], sections, path)
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    """All tags with their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_works_offline(tmp_path, picture):
    page = written(tmp_path / "report.html", picture, picture)
    assert not re.search(r"https?://|url\(|@import|<script", page)
    sources = [attrs[key] for _, attrs in Tags(page).tags for key in ("src", "href") if key in attrs]
    assert sum(source.startswith("data:image/png;base64,") for source in sources) == 2
    assert all(source.startswith(("data:", "#")) for source in sources)


def test_every_section_is_in_the_contents(tmp_path, picture):
    tags = Tags(written(tmp_path / "report.html", picture)).tags
    linked = [attrs["href"] for tag, attrs in tags if tag == "a"]
    assert linked == [f"#{attrs['id']}" for tag, attrs in tags if tag == "section"]
    assert len(linked) == 3


def test_the_report_escapes_what_it_is_given(tmp_path, picture):
    tags = Tags(written(tmp_path / "report.html", picture))
    assert [attrs["alt"] for tag, attrs in tags.tags if tag == "img"] == ["Errors <worst & 'first'>"]
    assert "<b>via</b>" in tags.words and "A paragraph of x < y." in tags.words
    assert not any(tag in ("worst", "b") and not tags.words for tag, _ in tags.tags)
    assert sum(tag == "b" for tag, _ in tags.tags) == 1  # the card's value


def test_what_is_folded_has_to_be_opened(tmp_path, picture):
    page = written(tmp_path / "report.html", picture)
    assert re.search(r"<details><summary>open me</summary>.*base\.seed.*</details>", page, re.DOTALL)
    assert "<caption>open me" not in page
    assert "<caption>by class</caption>" in page


def test_a_missing_picture_leaves_the_old_report(tmp_path, picture):
    before = written(tmp_path / "report.html", picture)
    with pytest.raises(FileNotFoundError):
        written(tmp_path / "report.html", tmp_path / "no.png")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_equal_runs_give_equal_bytes(tmp_path, picture):
    assert written(tmp_path / "a.html", picture) == written(tmp_path / "b.html", picture)
