"""Accuracy under damage, from students whose answers are known."""

import numpy as np
import pytest
from PIL import Image
from samples import texture

from semdefect.edge.runtime import Answers
from semdefect.errors import UserError
from semdefect.evaluation import TestSet
from semdefect.robustness import robustness, robustness_picture, severity_sheet, some_of_each
from semdefect.severities import CORRUPTIONS, corrupted


class Device:
    """Names what ``rule`` says of a batch ``[N, 1, 224, 224]``: class numbers ``[N]``."""

    def __init__(self, rule):
        self.rule = rule

    def answers(self, batch):
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (1, 224, 224)
        return Answers(np.eye(8, dtype=np.float32)[self.rule(batch)], np.zeros(len(batch), np.float32))


def test_set(*labels):
    images = [Image.fromarray(texture(number, 224)) for number in range(len(labels))]
    return TestSet(images, np.array(labels), [f"image {number}" for number in range(len(labels))])


test_set.__test__ = False


@pytest.fixture(scope="module")
def figures():
    """Of a student that calls everything class 0, and of one that knows undamaged images by heart and no others."""
    images = test_set(0, 3)
    known = {image.tobytes(): label for image, label in zip(images.images, images.truth, strict=True)}

    def by_heart(batch):
        return [known.get(np.round(each * 255).astype(np.uint8).tobytes(), 7) for each in batch[:, 0]]

    students = {"same": Device(lambda batch: np.zeros(len(batch), int)), "by_heart": Device(by_heart)}
    return robustness(students, images, seed=5)


def test_every_kind_and_severity_is_scored(figures):
    assert list(figures) == ["same", "by_heart"]
    assert all(list(each["curves"]) == list(CORRUPTIONS) for each in figures.values())
    assert {len(curve) for each in figures.values() for curve in each["curves"].values()} == {5}


def test_a_student_that_damage_does_not_touch(figures):
    same = figures["same"]
    assert (same["clean"], same["mean"], same["relative"]) == (0.5, 0.5, 1.0)
    assert {accuracy for curve in same["curves"].values() for accuracy in curve} == {0.5}


def test_a_student_that_knows_no_damaged_image(figures):
    assert (figures["by_heart"]["clean"], figures["by_heart"]["mean"], figures["by_heart"]["relative"]) == (1, 0, 0)


def test_severities_of_a_kind_stand_in_their_places():
    """One kind at one severity is named rightly, all else wrongly."""
    images = test_set(2)
    wanted = corrupted(np.asarray(images.images[0]), "jpeg", 4, seed=11)
    student = Device(lambda batch: [2 if np.array_equal(np.round(each[0] * 255), wanted) else 1 for each in batch])
    figures = robustness({"one": student}, images, seed=11)["one"]
    assert figures["curves"]["jpeg"] == [0, 0, 0, 1, 0]
    assert figures["mean"] == pytest.approx(1 / 70)
    assert (figures["clean"], figures["relative"]) == (0, None)


def test_no_images_are_refused():
    with pytest.raises(UserError, match=r"evaluate\.robustness_per_class: there are no test images"):
        robustness({}, test_set(), seed=0)


def test_some_of_each_class_are_spread_over_it():
    chosen = some_of_each(test_set(1, 1, 0, 1, 1), per_class=2)
    assert (chosen.truth.tolist(), chosen.names) == ([0, 1, 1], ["image 2", "image 0", "image 3"])
    assert chosen.images[0].tobytes() == texture(2, 224).tobytes()


def test_pictures_are_the_same_each_time(tmp_path, figures):
    for folder in ("a", "b"):
        robustness_picture(figures, tmp_path / folder / "curves.png")
        severity_sheet(Image.fromarray(texture(0, 224)), 3, tmp_path / folder / "sheet.png")
    for name in ("curves.png", "sheet.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(tmp_path / "a" / "curves.png") as curves:
        assert "Software" not in curves.info
        assert curves.width > 800
    with Image.open(tmp_path / "a" / "sheet.png") as sheet:
        assert (sheet.width > 6 * 112, sheet.height > 14 * 112) == (True, True)
