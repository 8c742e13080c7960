"""What an epoch consists of: real images fill their share, however many there are."""

import numpy as np
import pytest
import torch
from PIL import Image
from samples import row

from semdefect import CLASSES, training_data
from semdefect.edge.image import SIZE, to_pixels
from semdefect.seeds import STUDENT, image_seed
from semdefect.synthesis import render
from semdefect.training_data import KEPT, MOST_REPEATS, fresh_images, kept_images, real_repeats


def rows(real: int, rendered: int, label: str = "via"):
    made = [row(f"{label}/r{index}.png", origin="real", family="original") for index in range(real)]
    return made + [row(f"{label}/s{index}.png") for index in range(rendered)]


@pytest.mark.parametrize(("real", "share"), [(40, 0.4), (40, 0.2), (300, 0.6)])
def test_real_images_fill_their_share_of_a_class(real, share):
    repeats = real_repeats(rows(real, 100), 900, share)
    shown = repeats[:real].sum()
    assert shown / (shown + 1000) == pytest.approx(share, abs=0.03)
    assert set(repeats[real:]) == {1}


def test_every_class_has_its_own_number_of_repeats():
    repeats = real_repeats(rows(10, 50, "via") + rows(100, 50, "clean"), 150, 0.5)
    assert repeats[:10].tolist() == [20] * 10
    assert repeats[60:160].tolist() == [2] * 100


def test_few_real_images_are_not_shown_without_end():
    assert set(real_repeats(rows(2, 100), 3000, 0.5)[:2]) == {MOST_REPEATS}


def test_without_real_images_or_without_a_share_each_is_shown_once():
    assert real_repeats(rows(0, 5), 0, 0.4).tolist() == [1] * 5
    assert np.array_equal(real_repeats(rows(3, 5), 100, 0.0), np.ones(8, int))


def test_fresh_images_can_be_rendered_larger_than_they_are_shown():
    small = fresh_images(1, 32, STUDENT, 5, size=64)
    drawn = render("bridge", image_seed(5, STUDENT, 0), 64)
    halves = torch.tensor(drawn.image).float().reshape(32, 2, 32, 2).mean(dim=(1, 3))
    assert torch.allclose(small.pixels[0, 0].float(), halves, atol=0.51)  # resizing by half is the mean of four pixels
    assert small.masks.shape == (8, 1, 32, 32)


def test_fresh_images_larger_than_the_devices_are_made_smaller_as_there():
    (made,) = fresh_images(1, SIZE, STUDENT, 5, size=300).pixels[:1, 0].numpy()
    drawn = render(CLASSES[0], image_seed(5, STUDENT, 0), 300).image
    assert np.array_equal(made, to_pixels(Image.fromarray(drawn)))


def test_fresh_images_are_drawn_once_for_the_same_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn = []

    def counting(*arguments, **more):
        drawn.append(arguments)
        return fresh_images(*arguments, **more)

    monkeypatch.setattr(training_data, "fresh_images", counting)
    first = kept_images(1, 32, STUDENT, 5, 64)
    again = kept_images(1, 32, STUDENT, 5, 64)
    assert len(drawn) == 1
    assert again.sha256() == first.sha256() == fresh_images(1, 32, STUDENT, 5, size=64).sha256()
    assert kept_images(1, 32, STUDENT, 6, 64).sha256() != first.sha256()
    (file,) = KEPT.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    assert kept_images(1, 32, STUDENT, 6, 64).sha256() != first.sha256()
    assert len(drawn) == 3
