"""Heat maps: where the evidence lies, and how much of it lies on the defect."""

from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from PIL import Image
from samples import image_set, rounded_network, tiny_network
from torch import nn

from semdefect import CLASSES, attention
from semdefect.attention import attention_sheet, heat_maps, heat_overlays
from semdefect.chunks import MASK_SIZE
from semdefect.errors import UserError
from semdefect.images import ImageSet
from semdefect.rounding import set_precision

CLEAN = CLASSES.index("clean")


@pytest.fixture(scope="module")
def network():
    """A student of random weights, 64 px, with four by four cells."""
    return rounded_network()


@pytest.fixture(scope="module")
def pixels():
    return image_set(1, 64).pixels


@pytest.fixture(scope="module")
def by_cells():
    """A student whose logit of a class is its largest cell and nothing else."""
    network = tiny_network(resolution=64)
    with torch.no_grad():
        classifier = network.backbone.get_classifier()
        for parameter in (classifier.weight, classifier.bias, network.evidence.bias, network.cells.bias):
            nn.init.zeros_(parameter)
        nn.init.eye_(network.evidence.weight)
    return network


def test_the_map_is_where_the_answer_comes_from(by_cells, pixels):
    """Only one cell decides: Grad-CAM would spread it, HiResCAM may not."""
    with torch.no_grad():
        _, cells = by_cells(pixels.float() / 255, with_cells=True)
    found = 0
    for number in (0, 4):
        maps = heat_maps(by_cells, pixels, [number] * len(pixels))
        assert maps.shape == (8, 4, 4)
        for heat, values in zip(maps, cells[:, number].numpy(), strict=True):
            if values.max() <= 0:  # nothing speaks for the class
                assert not heat.any()
                continue
            assert heat.argmax() == values.argmax()
            assert np.count_nonzero(heat) == 1
            found += 1
    assert found >= 4


def test_maps_are_of_the_class_that_was_asked_for_and_reach_from_0_to_1(network, pixels):
    one, other = (heat_maps(network, pixels, [number] * 8) for number in (1, 6))
    assert not np.allclose(one, other)
    assert one.min() >= 0
    assert set(np.round(one.max(axis=(1, 2)), 4)) <= {0.0, 1.0}
    together = heat_maps(network, pixels, [1, 6] * 4)
    assert np.allclose(together, np.where((np.arange(8) % 2 == 0)[:, None, None], one, other), atol=1e-4)


def test_the_network_is_left_as_it_was(network, pixels):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if "_extra_state" not in name}
    plain = heat_maps(network, pixels, [0] * 8)
    set_precision(network, "int8")
    assert np.array_equal(heat_maps(network, pixels, [0] * 8), plain)  # FP32 whatever was set
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    block = network.backbone.blocks[network._stride_16]
    assert not block._forward_hooks


def made(monkeypatch, maps, labels, masks, predicted):
    """`attention.attention` of maps made by hand; ``masks``: of each image the cells of two by two, or None."""
    full = torch.zeros(len(labels), 1, MASK_SIZE, MASK_SIZE, dtype=torch.bool)
    for number, cells in enumerate(masks):
        for row, column in cells or []:
            full[number, 0, row * 16 + 3, column * 16 + 5] = True  # one point: the mask reaches into the cell
    known = torch.tensor([cells is not None for cells in masks])
    pixels = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
    images = ImageSet(pixels, torch.tensor(labels), full, known)
    monkeypatch.setattr(
        attention, "heat_maps", lambda _, shown, classes: np.array(maps, np.float32)[shown[:, 0, 0, 0].numpy()]
    )
    monkeypatch.setattr(attention, "predict", lambda _, shown: torch.eye(8)[predicted][shown[:, 0, 0, 0].long()])
    return attention.attention(None, images)


def test_figures_count_what_their_names_say(monkeypatch):
    figures = made(
        monkeypatch,
        maps=[
            [[1, 0.5], [0.5, 0]],  # maximum on the defect, half of the energy
            [[0.2, 1], [0, 0]],  # maximum beside it, a sixth of the energy
            [[0, 0], [0, 1]],  # another class, all on the defect
            [[0, 0], [0, 0]],  # nothing: neither a maximum nor energy, though the first cell is touched
            [[1, 0], [0, 0]],  # clean: no mask, does not count
            [[1, 0], [0, 0]],  # a mask that is not known does not either
            [[1, 0], [0, 0]],  # nor does one of more than half of the image
        ],
        labels=[0, 0, 3, 3, CLEAN, 3, 4],
        masks=[[(0, 0)], [(0, 0)], [(1, 1), (1, 0)], [(0, 0)], [], None, [(0, 0), (0, 1), (1, 0)]],
        predicted=[0, 2, 3, 5, CLEAN, 3, 4],
    )
    assert figures["per_class"] == {
        "bridge": {"images": 2, "pointing": 0.5, "energy": pytest.approx((1 / 2 + 1 / 6) / 2), "chance": 0.25},
        "crack": {"images": 2, "pointing": 0.5, "energy": 0.5, "chance": pytest.approx(3 / 8)},
    }
    assert figures["images"] == 4
    assert figures["pointing"] == 0.5
    assert figures["energy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert figures["chance"] == pytest.approx((1 / 4 + 3 / 8) / 2)
    assert (figures["pointing_right"], figures["pointing_wrong"]) == (1.0, 0.0)


def test_evidence_spread_evenly_is_at_chance(monkeypatch):
    figures = made(monkeypatch, [np.ones((2, 2))], [0], [[(0, 1)]], [0])
    assert figures["energy"] == figures["chance"] == 0.25
    assert figures["pointing_wrong"] is None


def test_without_masks_there_is_nothing_to_compare(network):
    images = image_set(1, 64)
    nothing = ImageSet(images.pixels, images.labels, torch.zeros_like(images.masks), images.known)
    with pytest.raises(UserError, match="no image has a mask"):
        attention.attention(network, nothing)
    whole = ImageSet(images.pixels, images.labels, torch.ones_like(images.masks), images.known)
    with pytest.raises(UserError, match="no image has a defect in less than half of it"):
        attention.attention(network, whole)


def test_overlays_are_coloured_where_the_map_is(by_cells):
    images = [Image.fromarray(one[0].numpy()) for one in image_set(1, 224).pixels]
    overlays = heat_overlays(by_cells, images, [0] * 8)
    maps = heat_maps(by_cells, image_set(1, 224).pixels, [0] * 8)
    assert any(heat.any() for heat in maps)
    for image, overlay, heat in zip(images, overlays, maps, strict=True):
        assert (overlay.mode, overlay.size) == ("RGB", (224, 224))
        colours = np.asarray(overlay).astype(int)
        coloured = np.ptp(colours, axis=2) > 20
        if not heat.any():
            assert np.array_equal(colours[..., 0], np.asarray(image))
            continue
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert coloured[row * 56 + 28, column * 56 + 28]
        far = np.asarray(Image.fromarray(heat).resize((224, 224), Image.Resampling.BILINEAR)) == 0
        assert np.array_equal(colours[far], np.asarray(image)[far][:, None].repeat(3, axis=1))


def test_the_sheet_is_the_same_each_time_and_in_colours(tmp_path, network):
    images = image_set(2, 64)
    for name in ("a.png", "b.png"):
        attention_sheet(network, images, tmp_path / name, per_class=1)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.mode == "RGB"
        page = np.asarray(sheet).astype(int)
    outline = (page == (0, 255, 255)).all(axis=2)
    assert outline.sum() > 7 * 100  # one of each class that has masks


def test_opencv_needs_no_window_system():
    """grad-cam wanted opencv-python until 1.5.5, which cannot be imported on a machine without libGL."""
    assert version("opencv-python-headless")
    with pytest.raises(PackageNotFoundError):
        version("opencv-python")
