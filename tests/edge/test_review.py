import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import LEVELS, ROOT, write_image, write_model
from project import copy_project

from semdefect import CLASSES
from semdefect.base_images import REAL, find_real_images
from semdefect.edge import EdgeClassifier, loop
from semdefect.edge.review import ReviewFolder, SourceChangedError, adopt, content_name
from semdefect.errors import UserError

UNSURE = (LEVELS[0] + LEVELS[1]) // 2


@pytest.fixture
def put(model, tmp_path):
    """Put an image of a gray level and name under review; returns its place there."""
    classifier = EdgeClassifier(model)
    (tmp_path / "real").mkdir()

    def run(name="wafer.png", level=UNSURE, unchanged=lambda: True):
        path = write_image(tmp_path / "images" / name, level)
        ReviewFolder(tmp_path / "review", CLASSES).put(path, classifier.classify(path), unchanged)
        return tmp_path / "review" / content_name(path)

    return run


def below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_an_image_under_review_is_a_copy_with_what_the_model_said(put, tmp_path):
    image = put()
    said = json.loads(image.with_suffix(".json").read_text())
    assert image.read_bytes() == (tmp_path / "images" / "wafer.png").read_bytes()
    assert said["source"] == str(tmp_path / "images" / "wafer.png") and said["decision"] == "review"
    assert set(said["probabilities"]) == set(CLASSES) and said["label"] in said["probabilities"]
    assert {path.name for path in image.parent.iterdir() if path.is_dir()} == set(CLASSES)


def test_one_name_with_two_contents_and_one_content_twice(put, tmp_path):
    first = put()
    assert put(level=UNSURE + 2) != first
    assert put() == first and len(below(tmp_path / "review")) == 4
    first.rename(first.parent / "via" / first.name)
    put()
    assert not first.exists()  # decided already


def test_what_changes_while_it_is_copied_leaves_nothing(put, tmp_path):
    with pytest.raises(SourceChangedError):
        put(unchanged=lambda: False)
    assert below(tmp_path / "review") == []


@pytest.mark.parametrize("name", ["a" * 250 + ".png", "ü" * 125 + ".png", "a\nb[1]*.PNG", ".x.png"])
def test_odd_names_come_through(put, tmp_path, name):
    image = put(name)
    assert put(name) == image and len(below(tmp_path / "review")) == 2
    if not name.startswith("."):
        image.rename(image.parent / "via" / image.name)
        assert adopt(tmp_path / "review", tmp_path / "real").images == {"via": 1}
        assert len(find_real_images(tmp_path / "real")["via"]) == 1


def test_adopt(put, tmp_path):
    decided, other = put("a.png"), put("b.png", UNSURE + 2)
    decided.rename(decided.parent / "bridge" / decided.name)
    own = write_image(tmp_path / "review" / "via" / "own.png", LEVELS[7])  # a person may add others
    name = content_name(own)
    adopted = adopt(tmp_path / "review", tmp_path / "real")
    assert (dict(adopted.images), adopted.undecided, adopted.refused) == ({"bridge": 1, "via": 1}, 1, [])
    assert below(tmp_path / "real") == [f"bridge/{decided.name}", f"via/{name}"]
    assert below(tmp_path / "review") == sorted([other.name, other.with_suffix(".json").name])
    again = adopt(tmp_path / "review", tmp_path / "real")
    assert not again.images and again.undecided == 1 and len(below(tmp_path / "real")) == 2


def test_what_a_killed_watch_left_under_review_goes_and_what_a_live_one_writes_stays(put, tmp_path):
    (tmp_path / "review").mkdir()
    dead, live = (tmp_path / "review" / f".a.{process}.part.png" for process in (2**22 + 1, os.getppid()))
    for part in (dead, live):
        part.write_bytes(b"half")
    put()
    assert live.exists() and not dead.exists()


def test_what_another_process_writes_is_not_taken_for_an_image_of_another_class(put, tmp_path):
    image = put()
    half = tmp_path / "real" / "via" / f".{image.stem}.{os.getppid()}.part.png"
    half.parent.mkdir()
    half.write_bytes(image.read_bytes()[:50])
    image.rename(image.parent / "cmp" / image.name)
    adopted = adopt(tmp_path / "review", tmp_path / "real")
    assert adopted.images == {"cmp": 1} and half.exists()


@pytest.mark.parametrize("stays", ["image", "side car"])
def test_what_cannot_be_removed_from_review_is_adopted_and_told(put, tmp_path, monkeypatch, stays):
    image = put()
    decided = image.rename(image.parent / "cmp" / image.name)
    kept = decided if stays == "image" else image.with_suffix(".json")
    unlink = Path.unlink

    def sticky(path, missing_ok=False):
        if path == kept:
            raise PermissionError(1, "Operation not permitted", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", sticky)
    adopted = adopt(tmp_path / "review", tmp_path / "real")
    assert adopted.images == {"cmp": 1} and adopted.refused == [f"{kept}: Operation not permitted"]
    assert below(tmp_path / "real") == [f"cmp/{image.name}"]


def test_adopt_again_after_an_interruption(put, tmp_path, monkeypatch):
    """Killed when the image was in its new place and not yet gone from the old one."""
    image = put()
    decided = image.rename(image.parent / "cmp" / image.name)
    (tmp_path / "real" / "cmp").mkdir()
    shutil.copy(decided, tmp_path / "real" / "cmp")
    assert adopt(tmp_path / "review", tmp_path / "real").images == {"cmp": 1}
    assert below(tmp_path / "real") == [f"cmp/{image.name}"] and below(tmp_path / "review") == []


def test_what_a_killed_adopt_left_is_no_image_and_goes(put, tmp_path):
    image = put()
    half = tmp_path / "real" / "via" / f".{image.stem}.{2**22 + 1}.part.png"  # no process has such a number
    half.parent.mkdir()
    half.write_bytes(image.read_bytes()[:50])
    image.rename(image.parent / "cmp" / image.name)
    assert adopt(tmp_path / "review", tmp_path / "real").images == {"cmp": 1}
    assert below(tmp_path / "real") == [f"cmp/{image.name}"]


def test_a_full_disk_ends_neither_the_others_nor_the_report(put, tmp_path, monkeypatch):
    first, second = put("a.png"), put("b.png", UNSURE + 2)
    for image in (first, second):
        image.rename(image.parent / "cmp" / image.name)
    copy = shutil.copyfile

    def full(source, target):
        if source.name == first.name:
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    adopted = adopt(tmp_path / "review", tmp_path / "real")
    assert adopted.images == {"cmp": 1} and below(tmp_path / "real") == [f"cmp/{second.name}"]
    assert adopted.refused == [f"{tmp_path}/real/cmp/{first.name}: No space left on device"]


def test_no_image_is_overwritten(put, tmp_path):
    image = put()
    image.rename(image.parent / "cmp" / image.name)
    target = write_image(tmp_path / "real" / "cmp" / image.name, LEVELS[5])
    content = target.read_bytes()
    (reason,) = adopt(tmp_path / "review", tmp_path / "real").refused
    assert "is another image of the same name" in reason and target.read_bytes() == content
    assert len(below(tmp_path / "review")) == 2


def test_what_is_refused_stays_and_the_others_go(put, tmp_path):
    review, real = tmp_path / "review", tmp_path / "real"
    twice, good, pulled = put("a.png"), put("b.png", UNSURE + 2), put("c.png", UNSURE + 4)
    shutil.copy(twice, review / "via")
    (real / "bridge").mkdir()
    twice.rename(real / "bridge" / twice.name)
    good.rename(review / "cmp" / good.name)
    pulled.rename(review / "ler" / pulled.name)
    (real / "ler.dvc").touch()
    (review / "open" / "half.png").write_bytes((real / "bridge" / twice.name).read_bytes()[:50])
    adopted = adopt(review, real)
    assert adopted.images == {"cmp": 1} and (real / "cmp" / good.name).is_file()
    missing, half, elsewhere = adopted.refused
    assert f"run `dvc pull {real}/ler.dvc` first" in missing and not (real / "ler").exists()
    assert half.startswith(f"{review}/open/half.png: is ")
    assert f"is already {real}/bridge/{twice.name}; decide on one class" in elsewhere
    assert {f"ler/{pulled.name}", "open/half.png", f"via/{twice.name}"} < set(below(review))


def test_wrong_folders(put, tmp_path, command):
    image = put()
    for words, message in (
        (("absent",), "absent: no such folder"),
        (("review",), "data/real: no such folder; run this in the root of the repository"),
    ):
        done = command("adopt", *words)
        assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1
    image.parent.joinpath("scratch").mkdir()
    assert not adopt(tmp_path / "review", tmp_path / "real").images
    image.rename(image.parent / "scratch" / image.name)
    with pytest.raises(UserError, match=r"scratch: is no class; move its images to a folder named bridge, clean"):
        adopt(tmp_path / "review", tmp_path / "real")


def test_the_device_and_the_pipeline_mean_one_folder():
    assert loop.REAL == REAL


DOCS = (
    (ROOT / "docs/edge.md")
    .read_text(encoding="utf-8")
    .partition("## From tool to training set")[2]
    .partition("\n## ")[0]
)


def test_the_documented_loop_from_tool_to_training_set(tmp_path):
    """Runs the commands of docs/edge.md as they stand there, in a copy of the project, up to the first stage."""
    project = copy_project(tmp_path / "project")
    project.run("git", "init", "-q")
    project.commit("start")
    (project.folder / "models/edge").mkdir(parents=True)
    write_model(project.folder / "models/edge/student_int8.onnx")
    for name, level in (("wafer6", LEVELS[4]), ("wafer7", UNSURE), ("wafer8", UNSURE + 2)):
        write_image(project.folder / "images" / f"{name}.png", level)
    program = tmp_path / "bin" / "semdefect"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nexec python -m semdefect.cli "$@"\n')
    program.chmod(0o755)
    *commands, repro = re.findall(r"^    (.+?)(?:  +#.*)?$", DOCS, re.MULTILINE)
    assert len(commands) == 5 and repro == "dvc repro"
    said = ""
    for line in (*commands, "dvc repro -q synthesize"):
        said += project.run(
            "sh", "-ec", f'PATH="{program.parent}:$PATH"; PYTHONPATH=.; export PYTHONPATH; {line}'
        ).stdout
    assert all(f"  {line}\n" in said for line in (*commands[-2:], repro)) and "1 undecided in review" in said
    (adopted,) = (project.folder / "data/real/bridge").iterdir()
    assert adopted.name.startswith("wafer7.")
    with (project.folder / "data/synthetic/manifest.csv").open(newline="") as file:
        real = [row for row in csv.DictReader(file) if row["source_id"] == f"bridge/{adopted.name}"]
    assert real and {row["class"] for row in real} == {"bridge"} and "real" in {row["origin"] for row in real}
    assert "data/real/bridge.dvc" in project.run("git", "status", "--porcelain").stdout
