"""A data set in archives is the data set in folders: same rows, same bytes, same pixels for who reads them."""

import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image
from samples import ROOT, params, params_content, texture, written

from semdefect import CLASSES, shards
from semdefect.balance import BaseImage, plan, write_images
from semdefect.errors import UserError
from semdefect.evaluation import _load
from semdefect.images import load_images
from semdefect.manifest import IMAGES, read_manifest, write_manifest
from semdefect.shards import shards_of, stream, write_shards

SIZE, PER_SHARD = 64, 24


@pytest.fixture(scope="module")
def jobs():
    return plan([], params(synthesize={"images_per_class": 8}).synthesize, seed=1)


@pytest.fixture(scope="module")
def both(jobs, tmp_path_factory):
    """One data set as `synthesize` writes it, and as archives."""
    folder, sharded = (tmp_path_factory.mktemp(name) / IMAGES for name in ("folders", "sharded"))
    write_manifest(folder / "manifest.csv", write_images(jobs, folder, SIZE, workers=1))
    write_shards(sharded, jobs, SIZE, PER_SHARD, workers=1)
    return folder, sharded


def test_the_manifest_is_the_same_but_for_the_archives_names(both):
    in_folders, in_shards = (read_manifest(folder / "manifest.csv") for folder in both)
    without = [replace(row, path=row.path.split("/", 1)[1]) for row in in_shards]
    assert sorted(without, key=lambda row: row.path) == in_folders
    assert [row.path for row in in_shards] == sorted(row.path for row in in_shards)


def test_all_archives_unpacked_are_the_folders(both, tmp_path):
    folder, sharded = both
    for shard in sorted(sharded.glob("*.tar")):
        with tarfile.open(shard) as archive:
            archive.extractall(tmp_path, filter="data")
    files = written(folder)
    del files["manifest.csv"]
    assert written(tmp_path) == files


def test_every_shard_holds_as_many_images_of_each_class(jobs):
    shards = shards_of(jobs, PER_SHARD)
    assert [len(own) for own in shards.values()] == [24, 24, 16]
    assert [sum(job.label == "via" for job in own) for own in shards.values()] == [3, 3, 2]
    assert list(shards) == sorted(shards)


def test_training_and_evaluation_see_the_same_pixels(both, monkeypatch):
    seen = []
    for folder in both:
        monkeypatch.chdir(folder.parent.parent)
        rows = sorted(read_manifest(IMAGES / "manifest.csv"), key=lambda row: row.seed)
        seen.append((load_images(rows, 32), [np.asarray(image) for image in _load(rows).images]))
    (here, scored), (there, scored_there) = seen
    assert torch.equal(here.pixels, there.pixels) and torch.equal(here.labels, there.labels)
    assert len(here) == 8 * len(CLASSES) and np.array_equal(scored, scored_there)


def test_a_stream_of_shards_is_every_image_once(both):
    folder, sharded = both
    by_seed = {row.seed: row for row in read_manifest(folder / "manifest.csv")}
    rows = []
    for row, pixels in stream(sorted(sharded.glob("*.tar"))):
        stored = np.asarray(Image.open(folder / by_seed[row.seed].path))
        assert np.array_equal(pixels, stored) and row.label == by_seed[row.seed].label
        rows.append(row)
    assert rows == read_manifest(sharded / "manifest.csv")


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(both, jobs, tmp_path, monkeypatch):
    _, sharded = both
    whole = written(sharded)
    for name in ("shards.json", "shard-000000.csv", "shard-000000.tar", "shard-000001.csv", "shard-000002.csv"):
        (tmp_path / name).write_bytes(whole[name])
    (tmp_path / "shard-000002.tar").write_bytes(whole["shard-000002.tar"][:-20_000])  # cut off by a power cut
    assert drawn_again(tmp_path, jobs, monkeypatch) == ["shard-000001.tar", "shard-000002.tar"]
    assert written(tmp_path) == whole


def of_another_seed(rows):
    header, first, rest = rows.split("\n", 2)
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    return "\n".join([header, first.replace(cells["seed"], str(int(cells["seed"]) + 1)), rest])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: "",
        lambda rows: rows.rsplit("\n", 2)[0] + "\n",
        lambda rows: rows[:300],
        lambda rows: rows.replace("shard-000001.tar/", ""),
        lambda rows: rows.replace("shard-000001.tar/", "shard-000000.tar/"),
        lambda rows: rows.replace(",via,", ",open,", 1),
        of_another_seed,
    ],
)
def test_a_shard_whose_rows_are_not_its_own_is_drawn_again(both, jobs, tmp_path, monkeypatch, spoil):
    whole = written(both[1])
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    rows = tmp_path / "shard-000001.csv"
    rows.write_text(spoil(rows.read_text()))
    assert drawn_again(tmp_path, jobs, monkeypatch) == ["shard-000001.tar"]
    assert written(tmp_path) == whole


def drawn_again(folder, jobs, monkeypatch):
    """Names of the shards that a run in ``folder`` draws."""
    drawn = []
    monkeypatch.setattr(
        shards, "in_parallel", lambda function, calls, *_: (drawn.append(call[0]) or function(*call) for call in calls)
    )
    write_shards(folder, jobs, SIZE, PER_SHARD)
    return drawn


@pytest.mark.parametrize("left", ["manifest.csv", "shard-000000.tar"])
def test_a_data_set_of_unknown_origin_is_left_alone(jobs, tmp_path, left):
    (tmp_path / left).touch()
    with pytest.raises(UserError, match=r"holds a data set, and no shards\.json says what from"):
        write_shards(tmp_path, jobs, SIZE, PER_SHARD)
    assert written(tmp_path) == {left: b""}


@pytest.mark.parametrize(
    ("size", "per_shard", "count"), [(SIZE + 1, PER_SHARD, 64), (SIZE, 8, 64), (SIZE, PER_SHARD, 63)]
)
def test_shards_of_another_data_set_are_not_gone_on_with(both, jobs, size, per_shard, count):
    with pytest.raises(UserError, match="holds shards of other images"):
        write_shards(both[1], jobs[:count], size, per_shard)


def test_a_missing_shard_is_named(both, tmp_path):
    with pytest.raises(UserError, match=r"shard-000009\.csv is missing"):
        list(stream([both[1] / "shard-000009.tar"]))


def test_an_image_or_an_archive_that_is_missing_is_named(both, tmp_path):
    shard = tmp_path / "shard-000000.tar"
    rows = (both[1] / "shard-000000.csv").read_text()
    (tmp_path / "shard-000000.csv").write_text(rows.replace("via/00000", "via/99999"))
    with pytest.raises(UserError, match=r"shard-000000\.tar.*check path"):
        list(stream([shard]))
    shard.write_bytes((both[1] / shard.name).read_bytes())
    with pytest.raises(UserError, match=r"shard-000000\.tar has no via/99999"):
        list(stream([shard]))


def test_shards_of_a_real_image_that_was_changed_are_not_gone_on_with(tmp_path):
    base = tmp_path / "a.png"
    settings = params(synthesize={"images_per_class": 8}).synthesize
    jobs = [job for job in plan([BaseImage(base, "crack", "crack/a.png", "real-00000")], settings, 1) if job.base]
    Image.fromarray(texture(1)).save(base)
    write_shards(tmp_path / "out", jobs, SIZE, workers=1)
    write_shards(tmp_path / "out", jobs, SIZE, workers=1)
    Image.fromarray(texture(2)).save(base)
    with pytest.raises(UserError, match="holds shards of other images"):
        write_shards(tmp_path / "out", jobs, SIZE, workers=1)


def test_large_shards_of_a_cluster_are_waited_for_longer(jobs, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(shards, "in_parallel", lambda *arguments: waited.append(arguments[-1]) or [])
    monkeypatch.setattr(shards, "_join", lambda *_: None)
    for size, per_shard in ((224, 1000), (1024, 20_000)):
        write_shards(tmp_path / str(size), jobs, size, per_shard, scheduler="tcp://host:8786")
    assert waited[0] == 600 and waited[1] > 3 * 0.4 * 20_000  # two tasks may wait for one worker


def test_a_folder_is_written_by_one_process_and_what_a_killed_one_left_goes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    folder, left = tmp_path / "out", tmp_path / f"out/.shard-000000.{2**22 + 1}.part.tar"
    folder.mkdir()
    left.write_text("half")
    options = shards.parser().parse_args([str(folder), "--images-per-class", "8", "--image-size", "64"])
    monkeypatch.setattr(shards, "write_shards", lambda *_: folder / "manifest.csv")
    with FileLock(tmp_path / ".out.lock"), pytest.raises(UserError, match=r"another process writes shards to .*out"):
        shards.run(options)
    assert left.exists()
    shards.run(options)
    assert not left.exists()


def test_the_root_is_no_folder_for_shards():
    with pytest.raises(UserError, match="shards need a folder of their own"):
        shards.run(shards.parser().parse_args(["/"]))


def test_an_empty_name_is_not_the_folder_one_is_in(capsys):
    with pytest.raises(SystemExit):
        shards.parser().parse_args([""])
    assert "is empty; name a file or a folder" in capsys.readouterr().err


def test_the_command_writes_what_its_options_ask_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)  # where data/real is, empty
    content = params_content()
    content["synthesize"] |= {"workers": 1}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content))
    options = ["--params", str(tmp_path / "own.yaml"), "--images-per-class", "8", "--image-size", "64"]
    shards.run(shards.parser().parse_args([str(tmp_path / "out"), *options, "--images-per-shard", "40"]))
    assert "64 images in 2 shards" in capsys.readouterr().out
    assert {row.size for row in read_manifest(tmp_path / "out/manifest.csv")} == {64}
