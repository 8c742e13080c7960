import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import LEVELS, gray_image, started, write_image, write_model

from semdefect import CLASSES
from semdefect.edge import EdgeClassifier, review
from semdefect.edge import watching as watching_module
from semdefect.edge.classifier import Failure
from semdefect.edge.results import Results
from semdefect.edge.review import ReviewFolder
from semdefect.edge.watching import BAD, COLUMNS, SETTLED, Stamp, WatchedFolder, watch
from semdefect.errors import UserError

UNSURE = (LEVELS[0] + LEVELS[1]) // 2  # between two classes


def png(level, tmp_path):
    """The bytes of an image that is too large to be whole in half of them."""
    gray_image(level, (300, 200)).save(tmp_path / "whole.png")
    return (tmp_path / "whole.png").read_bytes()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_file_is_tried_when_two_looks_have_found_it_the_same(tmp_path):
    folder = WatchedFolder(tmp_path)
    path = write_image(tmp_path / "a.png", 9)
    assert folder.look() == {}
    path.write_bytes(b"more")
    assert folder.look() == {}
    assert folder.look() == {path: Stamp.of(path)}
    folder.finish(path, Stamp.of(path))
    assert folder.look() == folder.look() == {}
    path.write_bytes(b"another")
    assert folder.look() == {} and list(folder.look()) == [path]
    path.unlink()
    assert folder.look() == {}


def test_what_cannot_be_read_is_tried_again_before_it_is_bad(tmp_path):
    folder = WatchedFolder(tmp_path)
    path = write_image(tmp_path / "a.png", 9)
    tried = {}
    for number in range(1, 2 * BAD):
        if folder.look():
            tried[number] = folder.may_be_unfinished(path)
    assert tried == {2: True, BAD: False}
    impatient = WatchedFolder(tmp_path, patient=False)
    assert not impatient.look() and impatient.look() and not impatient.may_be_unfinished(path)


@pytest.fixture
def watching(model, tmp_path):
    """Watch ``tmp_path/images`` without pauses; gives an iterator of results."""

    def start(once=False, between=lambda: None):
        classifier, review = EdgeClassifier(model), tmp_path / "review"
        with Results(tmp_path / "r.jsonl", classifier, resume=True, more=COLUMNS, one_model=False) as results:
            folder = WatchedFolder(tmp_path / "images", results.earlier, patient=not once)
            look = folder.look
            folder.look = lambda: (between(), look())[1]
            yield from watch(folder, classifier, results, ReviewFolder(review, CLASSES), once, interval=0)

    (tmp_path / "images").mkdir()
    return start


def test_a_file_written_in_two_halves_is_one_row(watching, tmp_path):
    path, content = tmp_path / "images" / "a.png", png(LEVELS[3], tmp_path)
    looks = iter(range(100))

    def tool():
        look = next(looks)
        if look == 0:
            path.write_bytes(content[: len(content) // 2])
        if look == 6:  # later than the file is first tried
            path.write_bytes(content)

    found, result = next(watching(between=tool))
    assert found == path and result.label == CLASSES[3]
    assert next(looks) == 8 and [row["label"] for row in read(tmp_path / "r.jsonl")] == [CLASSES[3]]


def test_a_file_that_stays_broken_is_one_bad_row_and_classified_if_it_becomes_whole(watching, tmp_path):
    path, content = tmp_path / "images" / "a.png", png(LEVELS[3], tmp_path)
    path.write_bytes(content[: len(content) // 2])
    looks = iter(range(1000))

    def tool():
        if next(looks) == 3 * BAD:
            path.write_bytes(content)

    rows = watching(between=tool)
    assert isinstance(next(rows)[1], Failure)
    assert next(looks) == BAD
    assert next(rows)[1].label == CLASSES[3]
    bad, good = read(tmp_path / "r.jsonl")
    assert "cut off or damaged" in bad["error"] and good["bytes"] == len(content) > bad["bytes"]


def test_a_file_that_changes_while_it_is_read_is_left_for_later(watching, tmp_path, monkeypatch):
    path = write_image(tmp_path / "images" / "a.png", LEVELS[0])
    classify, content = EdgeClassifier.classify, png(LEVELS[5], tmp_path)

    def during(self, image):
        if path.read_bytes() != content:
            path.write_bytes(content)
        return classify(self, image)

    monkeypatch.setattr(EdgeClassifier, "classify", during)
    assert next(watching())[1].label == CLASSES[5] and len(read(tmp_path / "r.jsonl")) == 1


def test_a_folder_that_is_gone_for_a_while_is_waited_for(watching, tmp_path, capsys):
    images, away = tmp_path / "images", tmp_path / "away"
    write_image(images / "a.png", LEVELS[0])
    looks = iter(range(100))

    def between():
        number = next(looks)
        if number in (1, 4):
            (images if number == 1 else away).rename(away if number == 1 else images)

    assert [path.name for path, _ in [next(watching(between=between))]] == ["a.png"]
    assert capsys.readouterr().err == f"error: {images}: no such folder; check the path; waiting for it\n"
    with pytest.raises(UserError, match="no such folder"):
        images.rename(away)
        next(watching())


def stale_at_first(monkeypatch):
    """Let the first reading of an image for review fail."""
    faults, read = [OSError(116, "Stale file handle")], Path.read_bytes

    def reading(path):
        if path.suffix == ".png" and faults:
            raise faults.pop()
        return read(path)

    monkeypatch.setattr(review.Path, "read_bytes", reading)


def test_an_image_that_cannot_be_copied_is_tried_again_soon(watching, tmp_path, monkeypatch):
    write_image(tmp_path / "images" / "a.png", UNSURE)
    stale_at_first(monkeypatch)
    looks = []
    assert next(watching(between=lambda: looks.append(1)))[1].decision == "review"
    assert len(looks) == 2 * SETTLED and len(list((tmp_path / "review").glob("*.png"))) == 1


def test_once_says_what_it_could_not_copy(watching, tmp_path, monkeypatch):
    path = write_image(tmp_path / "images" / "a.png", UNSURE)
    stale_at_first(monkeypatch)
    with pytest.raises(UserError, match=rf"{path}: cannot be copied for review \(Stale file handle\); run it again"):
        list(watching(once=True))
    assert [found for found, _ in watching(once=True)] == [path]


def test_a_folder_that_takes_long_to_say_no_is_soon_looked_at_again(watching, tmp_path, monkeypatch):
    """The rest after a slow look is for slow listings."""
    write_image(tmp_path / "images" / "a.png", LEVELS[0])
    looks, clock, slept = iter(range(100)), [0.0], []

    def between():
        if next(looks) == 1:
            clock[0] += 180
            raise UserError("the share does not answer")

    monkeypatch.setattr(watching_module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watching_module.time, "sleep", slept.append)
    next(watching(between=between))
    assert slept == [0, 0]


def test_once_and_again(watching, tmp_path):
    for number, name in enumerate(("a", "b", "c")):
        write_image(tmp_path / "images" / f"{name}.png", LEVELS[number])
    (tmp_path / "images" / "b.png").write_bytes(b"broken")
    assert [path.name for path, _ in watching(once=True)] == ["a.png", "b.png", "c.png"]
    assert list(watching(once=True)) == []
    write_image(tmp_path / "images" / "b.png", LEVELS[7])
    write_image(tmp_path / "images" / "d.png", UNSURE)
    assert [(path.name, row.label) for path, row in watching(once=True)] == [("b.png", "via"), ("d.png", "bridge")]
    assert list(watching(once=True)) == [] and len(read(tmp_path / "r.jsonl")) == 5
    os.utime(tmp_path / "images" / "a.png", (1, 1))
    assert [path.name for path, _ in watching(once=True)] == ["a.png"]


def test_interrupted_between_review_and_row_nothing_is_lost_or_twice(watching, tmp_path, monkeypatch):
    write_image(tmp_path / "images" / "a.png", UNSURE)
    monkeypatch.setattr(Results, "write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(watching(once=True))
    assert len(list((tmp_path / "review").glob("*.png"))) == 1 and read(tmp_path / "r.jsonl") == []
    monkeypatch.undo()
    list(watching(once=True))
    assert len(list((tmp_path / "review").glob("**/*.png"))) == len(read(tmp_path / "r.jsonl")) == 1


def test_the_command_goes_on_with_csv_and_with_another_model(command, model, tmp_path):
    write_image(tmp_path / "images" / "a.png", UNSURE)
    words = ("watch", "images", "--once", "--output", "r.csv", "--model")
    assert "a.png" in command(*words, model).stdout
    later = write_model(tmp_path / "m.onnx", sharpness=300.0)
    assert command(*words, later).stdout.split() == ["image", "class", "confidence", "decision"]
    write_image(tmp_path / "images" / "b.png", LEVELS[2])
    assert "b.png" in command(*words, later, "--json").stdout
    assert len({line.rpartition(",")[2] for line in (tmp_path / "r.csv").read_text().splitlines()[1:]}) == 2
    assert (tmp_path / "images" / "review" / "via").is_dir()


def test_a_bad_file_and_a_wrong_folder(command, model, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"hello")
    done = command("watch", "images", "--once", "--model", model)
    assert done.returncode == 1 and "error: is no image" in done.stdout
    for words, message in (
        (("absent",), "absent: no such folder"),
        (("images", "--review", "images"), "images: is the review folder"),
        (("images/review/via",), ""),
        (
            ("images/review/via", "--review", "images/review"),
            "is the review folder images/review or in it",
        ),
    ):
        done = command("watch", *words, "--once", "--model", model)
        assert done.returncode == (1 if message else 0) and message in done.stderr
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_watches_until_it_is_ended(model, tmp_path, how, code):
    content, path = png(LEVELS[1], tmp_path), tmp_path / "images" / "a.png"
    path.parent.mkdir()
    with started("watch", "images", "--model", model, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        path.write_bytes(content[: len(content) // 2])
        time.sleep(2.5)
        path.write_bytes(content)
        assert process.stdout.readline().split()[:2] == ["images/a.png", "clean"]
        process.send_signal(how)
        assert process.wait(10) == code and process.stderr.read() == "" and process.stdout.read() == ""
    assert len(read(tmp_path / "images" / "review" / "results.jsonl")) == 1
