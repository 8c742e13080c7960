"""Random views vary an image within its class."""

import numpy as np
import pytest
import torch
from samples import texture
from scipy.ndimage import center_of_mass

from semdefect import views as library


def batch(count: int, size: int = 64) -> torch.Tensor:
    return torch.from_numpy(np.stack([texture(seed, size) for seed in range(count)]))[:, None]


def random_views(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Views of images whose masks do not matter."""
    return library.random_views(pixels, torch.zeros(len(pixels), 1, 32, 32, dtype=torch.bool), generator)[0]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_views_have_the_form_that_networks_take(size):
    pixels = batch(4, size)
    views = random_views(pixels, generator(0))
    assert views.shape == pixels.shape
    assert views.dtype == torch.float32
    assert 0 <= float(views.min()) < float(views.max()) <= 1


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_stay_in_range(level):
    views = random_views(torch.full((64, 1, 32, 32), level, dtype=torch.uint8), generator(1))
    assert torch.isfinite(views).all()
    assert float(views.min()) >= 0
    assert float(views.max()) <= 1


def test_the_generator_decides_alone():
    pixels = batch(6)
    before = pixels.clone()
    torch.manual_seed(1)
    first = random_views(pixels, generator(5))
    torch.manual_seed(2)
    assert torch.equal(first, random_views(pixels, generator(5)))
    assert not torch.equal(first, random_views(pixels, generator(6)))
    assert torch.equal(pixels, before)


def test_each_image_gets_a_view_of_its_own():
    views = random_views(batch(1).repeat(8, 1, 1, 1), generator(0))
    assert len({view.numpy().tobytes() for view in views}) == 8


def test_another_detector_changes_edges_in_a_third_of_the_images_and_no_flat_area():
    flat = torch.full((300, 1, 16, 16), 0.4)
    assert torch.allclose(library._detected(flat, generator(3)), flat)
    images = batch(300, 16).float() / 255
    changed = (library._detected(images, generator(3)) != images).flatten(1).any(dim=1)
    assert 0.25 < float(changed.float().mean()) < 0.45


def likeness(view: np.ndarray, image: np.ndarray) -> float:
    """Highest correlation of ``view`` and ``image`` over the four flips, away from the border."""
    inner = slice(16, -16)
    flips = (image, image[:, ::-1], image[::-1], image[::-1, ::-1])
    return max(float(np.corrcoef(view[inner, inner].ravel(), f[inner, inner].ravel())[0, 1]) for f in flips)


def test_a_view_still_shows_the_same_picture():
    """Up to a flip: coarse structure correlates with the original, and other images do not."""
    count = 200
    image = texture(0, 128)
    coarse = np.asarray(torch.nn.functional.avg_pool2d(torch.from_numpy(image)[None, None].float(), 9, 1, 4))[0, 0]
    views = random_views(torch.from_numpy(image)[None, None].repeat(count, 1, 1, 1), generator(0))
    like = [likeness(view, coarse) for view in views[:, 0].numpy()]
    unlike = [likeness(random_views(batch(2, 128)[1:], generator(s))[0, 0].numpy(), coarse) for s in range(20)]
    assert np.median(like) > 0.5
    assert np.median(like) > np.max(unlike) + 0.15


def test_gray_levels_move_within_bounds():
    pixels = batch(200)
    views = random_views(pixels, generator(0))
    change = (views.mean(dim=(1, 2, 3)) - pixels.float().mean(dim=(1, 2, 3)) / 255).abs()
    assert float(change.max()) < 0.3
    spread = views.std(dim=(1, 2, 3)) / (pixels.float().std(dim=(1, 2, 3)) / 255)
    assert float(spread.min()) > 0.4
    assert float(spread.max()) < 2


def test_a_small_defect_stays_in_the_frame():
    """A spot within the inner 84 % is never moved out; the spot's place tells about flips as well."""
    places = [(10, 10), (10, 54), (54, 10), (54, 54), (32, 8)]
    flipped = set()
    for y, x in places:
        pixels = torch.full((100, 1, 64, 64), 60, dtype=torch.uint8)
        pixels[:, 0, y - 2 : y + 3, x - 2 : x + 3] = 250
        for view in random_views(pixels, generator(7))[:, 0].numpy():
            bright = view > (view.max() + np.median(view)) / 2
            assert bright.sum() >= 6
            row, column = center_of_mass(bright)
            if (y, x) == (10, 10):
                flipped.add((row > 32, column > 32))
            assert min(abs(row - y), abs(row - (63 - y))) < 14
            assert min(abs(column - x), abs(column - (63 - x))) < 14
    assert flipped == {(False, False), (False, True), (True, False), (True, True)}


def test_views_are_not_idle():
    pixels = batch(50)
    views = random_views(pixels, generator(3))
    assert float((views - pixels.float() / 255).abs().mean(dim=(1, 2, 3)).min()) > 0.005


def test_masks_move_with_their_images():
    pixels = torch.full((200, 1, 64, 64), 40, dtype=torch.uint8)
    masks = torch.zeros(200, 1, 32, 32, dtype=torch.bool)
    pixels[:, :, 12:24, 40:52] = 240
    masks[:, :, 6:12, 20:26] = True
    views, moved = library.random_views(pixels, masks, generator(2))
    assert moved.shape == masks.shape
    assert 0 <= float(moved.min()) < float(moved.max()) <= 1
    for view, mask in zip(views[:, 0].numpy(), moved[:, 0].numpy(), strict=True):
        bright = view > (view.max() + np.median(view)) / 2
        assert np.abs(np.array(center_of_mass(bright)) - 2 * np.array(center_of_mass(mask)) - 0.5).max() < 2
