"""The user's real images: what is wrong with the folder is said by name, and copies of an image are found."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from samples import texture

from semdefect import CLASSES
from semdefect.balance import load_base_images
from semdefect.base_images import duplicate_groups, find_real_images
from semdefect.errors import UserError


def put(folder, name, pixels, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def real(tmp_path):
    """Two crack images and one via, as a user lays them down."""
    folder = tmp_path / "data" / "real"
    put(folder, "crack/one.png", texture(1))
    put(folder, "crack/two.TIF", texture(2, 80), format="TIFF")
    put(folder, "via/three.jpg", texture(3, 100))
    (folder / "README.md").write_text("put images here")
    (folder / ".gitignore").write_text("/crack")
    (folder / "crack.dvc").write_text("outs: []")
    (folder / "crack" / ".hidden.png").write_bytes(b"")
    return folder


def refusal(folder) -> str:
    with pytest.raises(UserError) as refused:
        load_base_images(folder, 0.85)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_images_are_found_by_class_beside_readme_and_dvc_files(real):
    found = find_real_images(real)
    assert {label: [path.name for path in paths] for label, paths in found.items()} == {
        "crack": ["one.png", "two.TIF"],
        "via": ["three.jpg"],
    }


def test_a_folder_with_a_readme_alone_means_no_real_images(tmp_path):
    (tmp_path / "README.md").write_text("put images here")
    assert load_base_images(tmp_path, 0.85) == []


def test_a_name_that_is_no_text_is_refused_by_its_bytes(real):
    path = real / "crack" / "caf\udce9.png"
    path.write_bytes((real / "crack" / "one.png").read_bytes())
    assert "crack/caf\\udce9.png has a name" in refusal(real)


def test_a_name_with_an_unusual_space_is_taken(real):
    put(real, "crack/Screenshot at 9.41\u202fAM.png", texture(4))
    assert real / "crack" / "Screenshot at 9.41\u202fAM.png" in find_real_images(real)["crack"]


def test_a_missing_folder_says_how_to_get_it_back(tmp_path):
    assert "git checkout" in refusal(tmp_path / "real")


def test_a_folder_that_is_no_class_is_named_with_the_classes(real):
    put(real, "cracks/a.png", texture(4))
    message = refusal(real)
    assert str(real / "cracks") in message
    assert all(label in message for label in CLASSES)


def test_an_empty_class_folder_is_refused(real):
    (real / "ler").mkdir()
    (real / "ler" / "notes.txt").write_text("none yet")
    assert f"{real / 'ler'} holds no images" in refusal(real)


def test_a_folder_within_a_class_is_refused(real):
    put(real, "crack/lot7/a.png", texture(4))
    message = refusal(real)
    assert f"{real / 'crack' / 'lot7'} is a folder" in message
    assert "move its images up" in message


def test_an_image_outside_a_class_folder_is_refused(real):
    put(real, "loose.png", texture(4))
    message = refusal(real)
    assert f"{real / 'loose.png'} lies outside a class folder" in message
    assert "<class>" in message


def test_images_that_dvc_tracks_but_has_not_pulled_are_asked_for(real):
    (real / "ler.dvc").write_text("outs: []")
    assert f"dvc pull {real / 'ler.dvc'}" in refusal(real)


def test_unreadable_images_among_good_ones_are_all_named(real):
    whole = (real / "via" / "three.jpg").read_bytes()
    (real / "via" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (real / "crack" / "text.png").write_text("no image")
    message = refusal(real)
    assert str(real / "via" / "cut.jpg") in message
    assert str(real / "crack" / "text.png") in message
    assert "one.png" not in message


def test_many_unreadable_images_do_not_flood_the_terminal(real):
    for number in range(10):
        (real / "via" / f"bad{number}.png").write_text("no image")
    message = refusal(real)
    assert "bad0.png" in message
    assert "and 7 more" in message
    assert len(message) < 1000


def test_different_images_have_groups_of_their_own(real):
    for seed in range(10, 30):
        put(real, f"open/{seed}.png", texture(seed))
    bases = load_base_images(real, 0.85)
    assert len({base.group for base in bases}) == len(bases) == 23
    assert [base.source_id for base in bases[:2]] == ["crack/one.png", "crack/two.TIF"]


def as_jpeg(pixels):
    """``pixels`` after a lossy round trip."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=70)
    return np.asarray(Image.open(stream))


COPIES = {
    "same": lambda pixels: pixels,
    "mirrored": lambda pixels: pixels[:, ::-1],
    "upside down": lambda pixels: pixels[::-1],
    "turned by 90": lambda pixels: np.rot90(pixels, 1),
    "turned by 180": lambda pixels: np.rot90(pixels, 2),
    "turned by 270": lambda pixels: np.rot90(pixels, 3),
    "transposed": lambda pixels: pixels.T,
    "turned and mirrored": lambda pixels: np.rot90(pixels, 1)[:, ::-1].T,
    "smaller": lambda pixels: np.asarray(Image.fromarray(pixels).resize((57, 57))),
    "brighter, less contrast": lambda pixels: (pixels * 0.6 + 70).astype(np.uint8),
    "equalized": lambda pixels: np.asarray(ImageOps.equalize(Image.fromarray(pixels))),
    "noisy": lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 8, pixels.shape), 0, 255),
    "lossy": as_jpeg,
}


@pytest.mark.parametrize("change", COPIES)
def test_a_changed_copy_shares_the_group_of_its_original(real, change):
    copy = np.ascontiguousarray(COPIES[change](texture(1)), np.uint8)
    put(real, "via/another-name.jpg", copy, quality=80)
    groups = {base.source_id: base.group for base in load_base_images(real, 0.85)}
    assert groups["via/another-name.jpg"] == groups["crack/one.png"]
    assert len(set(groups.values())) == 3


def test_a_copy_of_an_oblong_image_is_found_when_turned(real):
    oblong = np.concatenate([texture(5, 96), texture(6, 96)], axis=1)
    put(real, "open/wide.png", oblong)
    put(real, "open/tall.png", np.ascontiguousarray(np.rot90(oblong)))
    groups = {base.source_id: base.group for base in load_base_images(real, 0.85)}
    assert groups["open/wide.png"] == groups["open/tall.png"]


def test_groups_are_closed_under_likeness():
    first, last = texture(1, 32).astype(float), texture(2, 32).astype(float)
    steps = [first * (1 - share) + last * share for share in np.linspace(0, 1, 6)]
    assert duplicate_groups([first, last], 0.85).tolist() == [0, 1]
    assert duplicate_groups(steps, 0.85).tolist() == [0] * 6


def test_the_threshold_decides():
    first = texture(1, 32).astype(float)
    mixed = first + texture(2, 32)  # correlates by about 0.7
    assert duplicate_groups([first, mixed], 0.9).tolist() == [0, 1]
    assert duplicate_groups([first, mixed], 0.5).tolist() == [0, 0]
