"""Pictures and tables of a run: complete, and the same each time."""

import csv

import numpy as np
from PIL import Image
from test_evaluation import EACH_TWICE, changed, outcome

from semdefect import CLASSES
from semdefect.evaluation import TestSet
from semdefect.plots import confusion_picture, error_sheet, reliability_picture, write_tables
from semdefect.sheet import contact_sheet


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


def red(images, classes):
    """Stands for heat maps: red as deep as the class's number."""
    return [Image.new("RGB", image.size, (number, 0, 0)) for image, number in zip(images, classes, strict=True)]


def test_pictures_are_the_same_each_time(tmp_path):
    answers = outcome(changed((4, 1)), confidence=np.linspace(0.2, 1.0, 16))
    matrix = np.array(answers.figures()["confusion"])
    images = TestSet([Image.new("L", (224, 224), 9 * n) for n in range(16)], answers.truth, [str(n) for n in range(16)])
    for folder in (tmp_path / "a", tmp_path / "b"):
        confusion_picture({"clean": matrix, "noisy": matrix}, folder / "confusion.png")
        curves = {"before": (answers.raw, answers.truth), "after": (answers.probabilities, answers.truth)}
        reliability_picture(curves, folder / "reliability.png")
        error_sheet(images, answers, red, folder / "errors.png")
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
    error_sheet(images, answers, red, tmp_path / "errors.png", count=2, columns=1)
    page = Image.open(tmp_path / "errors.png").convert("RGB")
    column = [page.getpixel((60, row)) for row in range(page.height)]
    assert [level for level in dict.fromkeys(column) if len(set(level)) == 1 and level[0] in (40, 90)] == [
        (90,) * 3,
        (40,) * 3,
    ]
    assert page.getpixel((60 + 116, 40)) == (2, 0, 0)  # beside the first, its heat map, of the class it was called


def test_a_run_without_errors_has_an_empty_sheet(tmp_path):
    answers = outcome(EACH_TWICE)
    images = TestSet([Image.new("L", (224, 224))] * 16, answers.truth, [""] * 16)
    error_sheet(images, answers, red, tmp_path / "errors.png")
    assert (np.asarray(Image.open(tmp_path / "errors.png")) == 255).all()


def test_a_sheet_has_a_line_for_each_heading(tmp_path):
    tiles = [(Image.new("L", (50, 50), 0), "")] * 3
    contact_sheet([("crack", tiles), ("via", tiles[:1])], tmp_path / "sheet.png")
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    dark = (page[:, -60] == 0).sum(), (page[:, -116 - 60 - 116] == 0).sum()
    assert dark[0] == 112  # the third column holds one tile
    assert dark[1] == 224  # the first holds two
