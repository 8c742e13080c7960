"""A balanced data set from few or many real images, the same whatever the number of workers."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from samples import params, texture

from semdefect import CLASSES
from semdefect.balance import MAX_CHILDREN, BaseImage, conflicting_labels, load_base_images, plan, redraw, write_images
from semdefect.errors import UserError
from semdefect.manifest import read_manifest, write_manifest
from stages import synthesize


def bases(**counts: int) -> list[BaseImage]:
    """So many real images of each class, each its own group."""
    return [
        BaseImage(Path(f"{label}/{n}.png"), label, f"{label}/{n}.png", f"real-{label}-{n}")
        for label, count in counts.items()
        for n in range(count)
    ]


def planned(real, images_per_class=100, augmented_share=0.35, seed=1):
    settings = params(synthesize={"images_per_class": images_per_class, "augmented_share": augmented_share}).synthesize
    return plan(real, settings, seed)


def kinds(jobs, label):
    """Numbers of real, augmented and rendered images of a class."""
    of_class = [job for job in jobs if job.label == label]
    real = sum(job.base is not None and not job.augmented for job in of_class)
    children = sum(job.augmented for job in of_class)
    return real, children, len(of_class) - real - children


REAL = {"crack": 1, "via": 20, "ler": 100, "open": 130, "other": 99}


@pytest.mark.parametrize("share", [0.0, 0.35, 1.0])
@pytest.mark.parametrize("real", [{}, REAL, dict.fromkeys(CLASSES, 4)])
def test_every_class_gets_the_same_number(real, share):
    jobs = planned(bases(**real), augmented_share=share)
    assert Counter(job.label for job in jobs) == dict.fromkeys(CLASSES, 100)


def test_real_images_come_first_then_children_then_rendered_ones():
    jobs = planned(bases(**REAL))
    assert kinds(jobs, "clean") == (0, 0, 100)
    assert kinds(jobs, "via") == (20, 28, 52)  # 35 % of the 80 that are missing
    assert kinds(jobs, "crack") == (1, MAX_CHILDREN, 99 - MAX_CHILDREN)  # more would only be copies
    assert kinds(jobs, "ler") == (100, 0, 0)
    assert kinds(jobs, "open") == (100, 0, 0)
    assert kinds(jobs, "other")[0] == 99


def test_children_are_shared_out_evenly():
    children = Counter(job.base.source_id for job in planned(bases(via=12)) if job.augmented)
    assert len(children) == 12
    assert max(children.values()) - min(children.values()) <= 1
    assert max(children.values()) <= MAX_CHILDREN


def test_of_too_many_real_images_the_user_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for label, count in (("via", 9), ("ler", 8)):
        (tmp_path / "data/real" / label).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(texture(number)).save(tmp_path / "data/real" / label / f"{number}.png")
    synthesize.main(params(synthesize={"images_per_class": 8, "image_size": 64, "workers": 1}))
    notes = [line for line in capsys.readouterr().out.splitlines() if "are drawn" in line]
    assert notes == ["note: of 9 real images of via, 8 are drawn: a larger synthesize.images_per_class takes all"]


def test_of_too_many_real_images_a_seeded_choice_is_taken():
    def chosen(seed):
        jobs = planned(bases(open=130), seed=seed)
        return [job.base.source_id for job in jobs if job.label == "open"]

    assert len(set(chosen(1))) == 100
    assert chosen(1) == chosen(1)
    assert set(chosen(1)) != set(chosen(2))


@pytest.mark.parametrize("real", [{}, REAL])
def test_no_two_images_share_a_seed_or_a_path(real):
    jobs = planned(bases(**real)) + planned(bases(**real), seed=2)
    assert len({job.seed for job in jobs}) == len(jobs) == 1600
    assert len({job.path for job in jobs[:800]}) == 800


def test_any_iterable_of_real_images_will_do():
    assert planned(iter(bases(**REAL))) == planned(bases(**REAL))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Three real cracks, one of them oblong and one a mirrored copy, and one via."""
    folder = tmp_path_factory.mktemp("real")
    for label in ("crack", "via"):
        (folder / label).mkdir()
    Image.fromarray(texture(1, 96)).save(folder / "crack/a.png")
    Image.fromarray(np.concatenate([texture(2, 96), texture(3, 96)])).save(folder / "crack/b.tif")
    Image.fromarray(np.ascontiguousarray(texture(1, 96)[:, ::-1])).save(folder / "crack/c.jpg")
    Image.fromarray(texture(4, 64)).save(folder / "via/d.bmp")
    return folder


@pytest.fixture(scope="module")
def jobs(real):
    return planned(load_base_images(real, 0.85), images_per_class=8, augmented_share=0.5)


@pytest.fixture(scope="module")
def written(jobs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    return folder, write_images(jobs, folder, 64, workers=1)


def test_two_workers_write_the_same_bytes_as_one(jobs, written, tmp_path):
    folder, rows = written
    assert write_images(jobs, tmp_path, 64, workers=2) == rows
    files = {path.relative_to(folder) for path in folder.rglob("*.png")}
    assert files == {path.relative_to(tmp_path) for path in tmp_path.rglob("*.png")}
    for path in files:
        assert (tmp_path / path).read_bytes() == (folder / path).read_bytes()


def test_every_row_names_an_image_in_the_order_of_the_jobs(jobs, written):
    folder, rows = written
    assert [(row.path, row.label, row.seed) for row in rows] == [(job.path, job.label, job.seed) for job in jobs]
    assert {row.path for row in rows} == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for row in rows:
        with Image.open(folder / row.path) as image:
            assert (image.mode, image.size) == ("L", (64, 64))
            assert len(np.unique(np.asarray(image))) > 8


def test_rows_tell_origin_and_lineage(written):
    _, rows = written
    groups = {row.source_id: row.group for row in rows}
    assert groups["crack/a.png"] == groups["crack/c.jpg"] != groups["crack/b.tif"]
    for row in rows:
        if row.family in ("original", "augmented"):
            assert row.origin == "real"
            assert row.label == row.source_id.split("/")[0]
        else:
            assert row.origin == "rendered"
            assert row.group == row.source_id
    assert Counter(row.family for row in rows if row.label == "crack")["original"] == 3
    originals = [row for row in rows if row.family == "original"]
    children = [row for row in rows if row.family == "augmented"]
    assert {child.group for child in children} <= {original.group for original in originals}
    rendered = [row for row in rows if row.origin == "rendered"]
    assert len({row.group for row in rendered}) == len(rendered)


def test_boxes_of_rendered_defects_lie_in_the_image_and_clean_has_none(written):
    _, rows = written
    for row in rows:
        if row.label == "clean" or row.origin == "real":
            assert row.bbox == ""
        else:
            left, top, right, bottom = map(int, row.bbox.split())
            assert 0 <= left < right <= 64
            assert 0 <= top < bottom <= 64


def test_originals_keep_their_pixels_and_children_differ_from_them(real, written):
    folder, rows = written
    by_source = {row.source_id: folder / row.path for row in rows if row.family == "original"}
    assert (np.asarray(Image.open(by_source["via/d.bmp"])) == texture(4, 64)).all()
    seen = {path.read_bytes() for path in by_source.values()}
    children = [folder / row.path for row in rows if row.family == "augmented"]
    assert len(children) > 4
    assert len({path.read_bytes() for path in children} | seen) == len(children) + len(seen)


def test_every_image_is_drawn_again_from_its_row_alone(real, written):
    folder, rows = written
    for row in rows:
        pixels, drawn = redraw(row, real)
        assert np.array_equal(pixels, np.asarray(Image.open(folder / row.path))), row.path
        assert (drawn is None) == (row.origin == "real")


def test_a_row_whose_base_image_lies_elsewhere_is_refused(real, written):
    child = next(row for row in written[1] if row.family == "augmented")
    with pytest.raises(UserError, match="is not below"):
        redraw(replace(child, source_id="../../etc/passwd"), real)


def test_near_duplicates_under_two_labels_are_told():
    pair = [BaseImage(Path(name), name[:3], name, "real-00000") for name in ("via/a.png", "ler/b.png")]
    others = [BaseImage(Path(name), "via", name, f"real-{name}") for name in ("via/c.png", "via/d.png")]
    twins = [replace(other, group="real-00007") for other in others]
    assert conflicting_labels([*pair, *others, *twins]) == [pair]
    assert conflicting_labels([*others, *twins]) == []


def test_the_manifest_of_written_images_reads_back(written, tmp_path):
    _, rows = written
    write_manifest(tmp_path / "manifest.csv", rows)
    assert read_manifest(tmp_path / "manifest.csv") == sorted(rows, key=lambda row: row.path)
    assert len(list(csv.reader((tmp_path / "manifest.csv").open()))) == 8 * len(CLASSES) + 1


def test_an_image_that_went_away_meanwhile_is_named(jobs, real, tmp_path, monkeypatch):
    gone = [job for job in jobs if job.base and job.base.source_id == "via/d.bmp"][:1]
    moved = BaseImage(tmp_path / "gone.bmp", "via", "via/d.bmp", gone[0].base.group)
    with pytest.raises(UserError, match=r"gone\.bmp: no such file"):
        write_images([type(gone[0])("via", 0, 1, moved)], tmp_path / "out", 64, workers=2)
