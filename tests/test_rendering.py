"""`semdefect render`: sheets, images that explain themselves, images of a data set drawn again."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import ROOT, row

from semdefect import CLASSES, cli
from semdefect.archive import tar_bytes
from semdefect.manifest import write_manifest
from semdefect.synthesis import families_of, render


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    """Exit code, standard output and standard error of ``semdefect render``."""
    try:
        code = cli.main(["render", *map(str, arguments)])
    except SystemExit as wrong:
        code = wrong.code
    return code, *capsys.readouterr()


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_image_comes_with_its_mask_and_everything_that_was_drawn(capsys, tmp_path):
    code, out, err = run(capsys, "--class", "bridge", "--n", 2, "--seed", 5, "--size", 64, "--images", "out")
    assert (code, out, err) == (0, "", "")
    expected = render("bridge", 6, 64)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        name for seed in (5, 6) for name in (f"bridge_{seed}.json", f"bridge_{seed}.png", f"bridge_{seed}_mask.png")
    ]
    assert np.array_equal(pixels("out/bridge_6.png"), expected.image)
    assert np.array_equal(pixels("out/bridge_6_mask.png") > 0, expected.mask)
    record = json.loads((tmp_path / "out" / "bridge_6.json").read_text())
    assert (record["family"], record["seed"], record["size"]) == (expected.family, 6, 64)
    assert record["defects"][0]["bbox"] == list(expected.bbox)
    assert record["scene"] and record["imaging"]


def test_a_sheet_of_every_class_grows_with_masks(capsys):
    assert run(capsys, "--n", 2, "--size", 64, "--sheet", "plain.png")[0] == 0
    assert run(capsys, "--n", 2, "--size", 64, "--sheet", "masks.png", "--masks")[0] == 0
    plain, masks = pixels("plain.png"), pixels("masks.png")
    assert len(plain) == len(masks) > len(CLASSES) * 112
    assert masks.shape[1] - plain.shape[1] > 2 * 112


def test_a_family_is_drawn_alone(capsys, tmp_path):
    assert run(capsys, "--class", "via", "--family", "void", "--n", 3, "--size", 64, "--images", "out")[0] == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("via_void_*.json")]
    assert [record["family"] for record in records] == ["void"] * 3


def test_the_list_names_every_family_with_its_share(capsys):
    code, out, _ = run(capsys, "--list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert {(label, name) for label, name, _ in rows} == {
        (label, name) for label in CLASSES for name in families_of(label)
    }
    for label in CLASSES:
        assert sum(float(share[:-1]) for other, _, share in rows if other == label) == pytest.approx(100, abs=0.5)


def test_an_image_of_the_data_set_is_drawn_again_from_its_row(capsys):
    drawn = render("crack", 123, 96)
    box = " ".join(map(str, drawn.bbox))
    rows = [row("crack/7.png", seed=123, size=96, family=drawn.family, bbox=box)]
    write_manifest(Path("data/synthetic/manifest.csv"), rows)
    assert run(capsys, "--row", "crack/7.png", "--images", "out")[0] == 0
    assert np.array_equal(pixels("out/crack/7.png"), drawn.image)
    assert run(capsys, "--row", "./data/synthetic/crack/7.png", "--images", "again")[0] == 0


def test_a_real_image_is_found_beside_a_manifest_that_leads_into_the_cache(capsys, tmp_path):
    """As `cache.type symlink` makes it, and from another folder."""
    there, pixel = tmp_path / "project/data", np.full((80, 80), 99, np.uint8)
    (there / "real/via").mkdir(parents=True)
    (there / "synthetic").mkdir()
    Image.fromarray(pixel).save(there / "real/via/a.png")
    rows = [row("via/0_real.png", origin="real", source_id="via/a.png", size=80, family="original")]
    cached = tmp_path / "project/.dvc/cache/files/md5/ab/cdef"
    write_manifest(cached, rows)
    (there / "synthetic/manifest.csv").symlink_to(cached)
    words = ("--row", "via/0_real.png", "--manifest", str(there / "synthetic/manifest.csv"), "--images", "out")
    code, _, err = run(capsys, *words)
    assert code == 0, err
    assert np.array_equal(pixels("out/via/0_real.png"), pixel)


@pytest.mark.parametrize("changed", ["box", "pixels"])
def test_an_image_that_would_look_different_now_is_not_passed_off_as_the_old_one(capsys, tmp_path, changed):
    drawn = render("crack", 123, 96)
    box = "1 2 3 4" if changed == "box" else " ".join(map(str, drawn.bbox))
    rows = [row("crack/7.png", seed=123, size=96, family=drawn.family, bbox=box)]
    write_manifest(Path("data/synthetic/manifest.csv"), rows)
    Path("data/synthetic/crack").mkdir()
    Image.fromarray(drawn.image if changed == "box" else 255 - drawn.image).save("data/synthetic/crack/7.png")
    code, _, err = run(capsys, "--row", "crack/7.png", "--images", "out")
    assert code == 1 and "crack/7.png would look different" in err
    assert not Path("out").exists()


def test_an_image_in_an_archive_is_compared_too(capsys):
    drawn, folder = render("crack", 123, 96), Path("data/synthetic")
    path, box = "shard-000000.tar/crack/7.png", " ".join(map(str, drawn.bbox))
    listed = row(path, label="crack", seed=123, size=96, family=drawn.family, bbox=box)
    write_manifest(folder / "manifest.csv", [listed])
    codes = []
    for stored in (drawn.image, 255 - drawn.image):
        png = io.BytesIO()
        Image.fromarray(stored).save(png, "PNG")
        (folder / "shard-000000.tar").write_bytes(tar_bytes([("crack/7.png", png.getvalue())]))
        codes.append(run(capsys, "--row", path, "--images", "out")[0])
    assert codes == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--sheet"]),
        (["--sheet", "sheet.jpg"], ["sheet.jpg", ".png"]),
        (["--images", "out", "--masks"], ["--masks", "--sheet"]),
        (["--row", "via/0.png", "--class", "via", "--images", "out"], ["--row via/0.png", "--class"]),
        (["--row", "via/0.png", "--family", "void", "--images", "out"], ["--row via/0.png", "leave --family"]),
        (["--row", "via/0.png", "--size", 64, "--images", "out"], ["--row via/0.png", "leave --size"]),
        (["--row", "via/0.png", "--seed", 0, "--images", "out"], ["--row via/0.png", "leave --seed"]),
        (["--manifest", "m.csv", "--images", "out"], ["--manifest m.csv", "--row"]),
        (["--n", 300, "--sheet", "s.png"], ["--sheet", "2000", "--n"]),
        (["--images", "data/real/via"], ["data/real/via", "elsewhere"]),
        (["--sheet", "data/s.png"], ["data/s.png", "elsewhere"]),
        (["--list", "--n", 3], ["--list", "leave --n"]),
        (["--list", "--masks"], ["--list", "leave --masks"]),
        (["--family", "void", "--sheet", "s.png"], ["void", "--class"]),
        (["--class", "via", "--family", "fork", "--sheet", "s.png"], ["via", "fork", "void"]),
        (["--row", "via/0.png", "--images", "out"], ["manifest.csv", "dvc repro"]),
    ],
)
def test_what_cannot_be_drawn_is_said_in_one_sentence(capsys, tmp_path, arguments, words):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [("--size", 63), ("--size", 1025), ("--n", 0), ("--seed", -1), ("--class", "tidy"), ("--images", "")],
)
def test_a_value_out_of_range_is_named(capsys, option, value):
    code, _, err = run(capsys, option, value, "--sheet", "s.png")
    assert code == 2
    assert option in err and str(value) in err


def test_it_draws_with_the_instructions_that_the_stages_draw_with(monkeypatch, capsys):
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", "")
    monkeypatch.delenv("NPY_DISABLE_CPU_FEATURES")
    again = []
    monkeypatch.setattr(os, "execv", lambda *words: again.append((words, os.environ["NPY_DISABLE_CPU_FEATURES"])))
    for words in (["render", "--list"], ["adopt", "absent"]):
        monkeypatch.setattr(sys, "argv", ["semdefect", *words])
        cli.main()
    ((_, disabled),) = again
    assert "X86_V4" in disabled


def test_where_the_training_packages_are_missing_it_says_so(tmp_path):
    (tmp_path / "scipy.py").write_text("raise ModuleNotFoundError('no scipy here', name='scipy')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "semdefect.cli", "render", "--list"], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "scipy is not installed" in done.stderr and "requirements.txt" in done.stderr


def test_a_sheet_is_no_folder(capsys, tmp_path):
    (tmp_path / "s.png").mkdir()
    code, _, err = run(capsys, "--class", "via", "--n", 1, "--sheet", "s.png")
    assert code == 1 and "s.png is a folder" in err
