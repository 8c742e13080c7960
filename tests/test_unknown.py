"""Images of other kinds: what the score learns from, what tests it, and that learning it changes nothing else."""

import numpy as np
import pytest
import torch
from samples import image_set, rounded_network
from sklearn.neural_network import MLPClassifier

from semdefect import unknown
from semdefect.foreign import COUNT, CROPS, PHOTOGRAPHS, foreign_images
from semdefect.images import ImageSet
from semdefect.network import load_network, predict, save_network
from semdefect.outliers import outlier
from semdefect.training_data import fresh_images
from semdefect.unknown import learn_unknown, outliers


def test_an_outlier_is_its_seed():
    assert np.array_equal(outlier(3), outlier(3)) and not np.array_equal(outlier(3), outlier(4))


def test_outliers_are_of_many_kinds():
    drawn = np.stack([outlier(seed) for seed in range(40)])
    assert drawn.shape == (40, 224, 224) and drawn.dtype == np.uint8
    spread = drawn.std(axis=(1, 2))
    assert spread.min() > 5  # none is blank
    fine = np.abs(np.diff(drawn.astype(float), axis=2)).mean(axis=(1, 2)) / spread
    assert fine.max() > 20 * fine.min()  # from gradients to noise


def test_foreign_images_are_of_every_kind_and_as_the_device_sees_them():
    kinds = foreign_images(1)
    assert {kind: len(images) for kind, images in kinds.items()} == {
        "photographs": len(PHOTOGRAPHS) * (1 + CROPS), "text": COUNT, "gradients": COUNT, "noise": COUNT
    }  # fmt: skip
    for images in kinds.values():
        assert {(image.mode, image.size) for image in images} == {("L", (224, 224))}
    again = foreign_images(1)
    assert [image.tobytes() for image in again["text"]] == [image.tobytes() for image in kinds["text"]]


def learned() -> tuple:
    network = rounded_network()
    before = predict(network, image_set(2, 64).pixels)
    rendered = fresh_images(5, 64, 2, 1)
    learn_unknown(network, rendered, seed=1, examples=40)
    return network, before, rendered


def test_the_score_tells_outliers_from_training_images_and_nothing_else_changes(tmp_path):
    network, before, rendered = learned()
    assert torch.equal(predict(network, image_set(2, 64).pixels), before)
    known, strange = (scores(network, pixels) for pixels in (rendered.pixels, outliers(40, 64, 1)))
    assert known.min() >= 0 and strange.max() <= 1
    assert (strange[:, None] > known[None]).float().mean() > 0.65  # area under the curve, of random weights
    save_network(network, tmp_path / "student.safetensors")
    again = load_network(tmp_path / "student.safetensors")
    assert torch.allclose(scores(again, rendered.pixels), known)
    twice, _, _ = learned()
    assert torch.equal(scores(twice, rendered.pixels), known)


def test_a_head_that_is_interrupted_is_none(monkeypatch):
    """scikit-learn would give what it has learned until then."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(MLPClassifier, "_backprop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learn_unknown(rounded_network(), image_set(2, 64), seed=1, examples=16)


def scores(network, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.answers(pixels.float() / 255)[1]


@pytest.mark.parametrize(("examples", "views"), [(2400, 16), (10, 10)])
def test_few_training_images_are_seen_twice_and_matched_by_as_many_outliers(monkeypatch, examples, views):
    few, counts = image_set(1, 64), []
    monkeypatch.setattr(unknown, "outliers", lambda count, *rest: counts.append(count) or outliers(count, *rest))
    network = rounded_network()
    learn_unknown(network, ImageSet(*few.tensors()), seed=1, examples=examples)
    assert len(few) == 8 and counts == [views]
    assert torch.isfinite(scores(network, few.pixels)).all()
