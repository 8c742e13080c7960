"""Pictures, tables and the report of a run: complete, the same each time, and readable without a network."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from test_evaluation import EACH_TWICE, changed, outcome, summary_of

from semdefect import CLASSES
from semdefect.evaluation import TestSet
from semdefect.plots import confusion_picture, error_sheet, reliability_picture, write_tables
from semdefect.report import write_report
from semdefect.sheet import contact_sheet


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.new("L", (8, 8), 99).save(path)
    return path


@pytest.fixture
def page(tmp_path, picture):
    """The report of a run with errors, one of them a class that was never called."""
    answers = outcome(changed((4, 1), (5, 1), (6, 7)))
    summary, details = summary_of(answers, answers, answers)
    pictures = {"Errors <worst & 'first'>": picture, "Samples": picture}
    write_report(summary, details, pictures, tmp_path / "metrics" / "report.html")
    return (tmp_path / "metrics" / "report.html").read_text(encoding="utf-8")


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


def test_the_report_works_offline(page):
    assert "http://" not in page
    assert "https://" not in page
    assert not re.search(r"url\(|@import|<script|<link", page)
    sources = [attrs[key] for _, attrs in Tags(page).tags for key in ("src", "href") if key in attrs]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_the_report_escapes_what_it_is_given(page):
    assert "<worst" not in page
    assert "Errors <worst & 'first'>" in "".join(Tags(page).words)
    assert [attrs["alt"] for tag, attrs in Tags(page).tags if tag == "img"] == ["Errors <worst & 'first'>", "Samples"]


def test_the_report_shows_the_figures_of_each_model_and_class(page):
    text = " ".join(Tags(page).words)
    for model in ("teacher", "student_fp32", "student_int8"):
        assert re.search(rf"{model} +mixed +16 +81\.2%", text)
    assert all(f" {label} " in text for label in CLASSES)
    assert re.search(r"cmp +2 +- +0\.0%", text)  # never called: no purity to tell
    assert "None" not in text
    assert "nan" not in text


def test_a_missing_picture_leaves_the_old_report(tmp_path, page):
    summary, details = summary_of(*(outcome(EACH_TWICE) for _ in range(3)))
    with pytest.raises(FileNotFoundError):
        write_report(summary, details, {"Samples": tmp_path / "no.png"}, tmp_path / "metrics" / "report.html")
    assert (tmp_path / "metrics" / "report.html").read_text(encoding="utf-8") == page


def test_tables_hold_a_row_for_each_image_and_each_class(tmp_path):
    answers = outcome(changed((4, 1), (5, 1)))
    write_tables(answers, answers.figures(), tmp_path)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert len(rows) == 16
    assert rows[4] == {"actual": "cmp", "predicted": "clean"}
    assert [r["actual"] for r in rows] == [CLASSES[number] for number in EACH_TWICE]
    classes = {r["class"]: r for r in csv.DictReader((tmp_path / "per_class.csv").open())}
    assert list(classes) == list(CLASSES)
    assert classes["clean"] == {"class": "clean", "images": "2", "purity": "0.5", "recall": "1.0"}
    assert (classes["cmp"]["purity"], classes["cmp"]["recall"]) == ("", "0.0")


def test_pictures_are_the_same_each_time(tmp_path):
    answers = outcome(changed((4, 1)), confidence=np.linspace(0.2, 1.0, 16))
    matrix = np.array(answers.figures()["confusion"])
    images = TestSet([Image.new("L", (224, 224), 9 * n) for n in range(16)], answers.truth, [str(n) for n in range(16)])
    for folder in (tmp_path / "a", tmp_path / "b"):
        confusion_picture({"clean": matrix, "noisy": matrix}, folder / "confusion.png")
        curves = {"before": (answers.raw, answers.truth), "after": (answers.probabilities, answers.truth)}
        reliability_picture(curves, folder / "reliability.png")
        error_sheet(images, answers, folder / "errors.png")
    for name in ("confusion.png", "reliability.png", "errors.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        with Image.open(tmp_path / "a" / name) as image:
            assert min(image.size) > 100


def test_the_confusion_picture_survives_a_class_without_images(tmp_path):
    confusion_picture({"real": np.zeros((8, 8), int)}, tmp_path / "confusion.png")
    assert Image.open(tmp_path / "confusion.png").size[0] > 200


def test_the_most_confident_errors_come_first(tmp_path):
    confidence = np.full(16, 0.5)
    confidence[[0, 4, 9]] = 0.99, 0.6, 0.95  # image 0 is right
    answers = outcome(changed((4, 1), (9, 2)), confidence=confidence)
    levels = [10 * n for n in range(16)]
    images = TestSet([Image.new("L", (224, 224), level) for level in levels], answers.truth, [""] * 16)
    error_sheet(images, answers, tmp_path / "errors.png", count=2, columns=2)
    shown = np.asarray(Image.open(tmp_path / "errors.png"))
    middle = shown[40]
    assert [int(level) for level in dict.fromkeys(middle.tolist()) if level != 255] == [90, 40]


def test_a_run_without_errors_has_an_empty_sheet(tmp_path):
    answers = outcome(EACH_TWICE)
    images = TestSet([Image.new("L", (224, 224))] * 16, answers.truth, [""] * 16)
    error_sheet(images, answers, tmp_path / "errors.png")
    assert (np.asarray(Image.open(tmp_path / "errors.png")) == 255).all()


def test_a_sheet_has_a_line_for_each_heading(tmp_path):
    tiles = [(Image.new("L", (50, 50), 0), "")] * 3
    contact_sheet([("crack", tiles), ("via", tiles[:1])], tmp_path / "sheet.png")
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    dark = (page[:, -60] == 0).sum(), (page[:, -116 - 60 - 116] == 0).sum()
    assert dark[0] == 112  # the third column holds one tile
    assert dark[1] == 224  # the first holds two
