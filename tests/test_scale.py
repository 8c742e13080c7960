"""The benchmarks about many images: sums that can be checked by hand, and a tiny run."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from samples import params

from benchmarks import scale, shards
from benchmarks.scale import Prices, Rates, costs
from semdefect.errors import UserError

RATES = Rates(
    draw_ms=36, teacher_ms=18, student_ms=18, classify_ms=3.6, png_bytes=20_000, row_bytes=100, row_memory=1000,
    row_ms=0.01, per_shard=1000,
)  # fmt: skip
PRICES = Prices(core_hour=0.05, gb_month=0.02, thousand_puts=0.005, thousand_gets=0.0004)


def test_costs_are_products():
    found = costs(1e6, RATES, PRICES)
    assert found["draw, core hours"] == pytest.approx(10) and found["draw, $"] == pytest.approx(0.5)
    assert found["one epoch of teacher and student, core hours"] == pytest.approx(10)
    assert found["draw and one epoch, days on two cores"] == pytest.approx(20 / 48)
    assert found["draw and one epoch, hours on 1000 cores"] == pytest.approx(0.02)
    assert found["classify once, core hours"] == pytest.approx(1)
    assert found["PNG files, GB"] == pytest.approx(20) and found["keep for a month, $"] == pytest.approx(0.4)
    assert found["put one object an image, $"] == pytest.approx(5) and found["put shards, $"] == pytest.approx(0.005)
    assert found["manifest, GB"] == pytest.approx(0.1) and found["manifest in memory, GB"] == pytest.approx(1)
    assert found["read the manifest, seconds"] == pytest.approx(10)


def test_costs_grow_with_the_images_and_with_what_they_are_made_of():
    small, large = costs(1e5, RATES, PRICES), costs(1e7, RATES, PRICES)
    assert all(large[name] == pytest.approx(100 * small[name]) for name in small)
    dear = costs(1e5, RATES, replace(PRICES, core_hour=1))
    assert {name for name in small if dear[name] != small[name]} == {name for name in small if name[-3:] == ", $"} - {
        "keep for a month, $", "put one object an image, $", "put shards, $", "get one object an image, once, $",
        "get shards, once, $",
    }  # fmt: skip


def test_the_table_comes_from_the_committed_rates(capsys):
    scale.run(scale.parser().parse_args(["--images", "1e5", "--core-hour", "1"]))
    said = capsys.readouterr().out
    assert "100,000" in said and "keep for a month, $" in said


def test_the_documents_table_is_that_of_the_committed_rates():
    text = (Path(__file__).parents[1] / "docs/scale.md").read_text(encoding="utf-8")
    prices = Prices(**{name: scale.parser().get_default(name) for name in Prices.__dataclass_fields__})
    columns = [costs(images, scale.rates(), prices) for images in scale.SCALES]
    rows = {
        "draw, core hours ($)": ("draw, core hours", "draw, $"),
        "one epoch of teacher and student, core hours ($)": (
            "one epoch of teacher and student, core hours", "one epoch of teacher and student, $"
        ),
        "both: days on two cores, hours on 1000": (
            "draw and one epoch, days on two cores", "draw and one epoch, hours on 1000 cores"
        ),
        "classify once, core hours ($)": ("classify once, core hours", "classify once, $"),
        "PNG, GB ($ a month)": ("PNG files, GB", "keep for a month, $"),
        "write as objects: an image each, in shards, $": ("put one object an image, $", "put shards, $"),
        "manifest: GB, in memory GB": ("manifest, GB", "manifest in memory, GB"),
        "read the manifest, s": ("read the manifest, seconds",),
    }  # fmt: skip
    for name, keys in rows.items():
        (cells,) = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", text, re.MULTILINE)
        for cell, column in zip(cells.split(" | "), columns, strict=True):
            told = [float(number.replace(" ", "")) for number in re.findall(r"\d[\d ]*(?:\.\d+)?", cell)]
            assert told == [pytest.approx(column[key], rel=0.1) for key in keys], (name, cell)


def test_rates_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    (tmp_path / "scale.json").write_text("{}")
    with pytest.raises(UserError, match="has no draw_ms"):
        scale.rates()


def test_speeds_without_the_file_that_is_asked_for_are_refused(tmp_path, monkeypatch):
    for name in ("scale", "shards"):
        shutil.copy(scale.RESULTS / f"{name}.json", tmp_path)
    (tmp_path / "edge_speed.json").write_text('{"calls": []}')
    monkeypatch.setattr(scale, "RESULTS", tmp_path)
    with pytest.raises(UserError, match=r"edge_speed\.json has no call of student_w8\.onnx"):
        scale.rates()
    (tmp_path / "edge_speed.json").unlink()
    with pytest.raises(UserError, match=r"edge_speed\.json is missing: restore it"):
        scale.rates()


def test_dvc_is_timed_in_a_folder_that_is_named_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images/one.png").write_bytes(b"an image")
    found = shards.dvc(Path("images"), Path("scratch"))
    assert set(found) == {"start", "add", "status", "status_rehashed"}
    assert all(one["seconds"] > 0 for one in found.values()) and not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "many"])
def test_a_price_is_a_number_above_0(word, capsys):
    with pytest.raises(SystemExit):
        scale.parser().parse_args(["--core-hour", word])
    assert "must be a number above 0" in capsys.readouterr().err


def test_shards_and_folders_hold_the_same_images(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "PER_SHARD", 40)
    monkeypatch.setattr(shards, "load_params", lambda: params(synthesize={"workers": 1}))
    monkeypatch.setattr(shards, "dvc", lambda *_: {"add": {"seconds": 0.0}})  # eight starts of dvc, a second each
    found = shards.measure(tmp_path, 8, 64, 40)
    assert (found["images"], found["images_in_folders"]) == (64, 40)
    assert found["reading"]["stream_of_shards"]["images"] == found["reading"]["files_in_order"]["images"] == 40
    assert found["folders"]["files"] == 40 and found["shards"]["files"] == 2 * 2 + 2
    assert found["manifest"]["rows"] == found["stream_of_all_shards"]["images"] == 64
    assert "64 images in shards, 40 of them in folders" in shards.text(found)
