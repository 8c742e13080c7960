import json
import os
import pty
import signal
import subprocess
import sys
import termios
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import LEVELS, ROOT, started, write_image, write_model

from semdefect import CLASSES, __version__
from semdefect.edge import Prediction

FOREIGN = {
    "torch",
    "timm",
    "scipy",
    "sklearn",
    "pydantic",
    "yaml",
    "matplotlib",
    "rich",
    "joblib",
    "dvc",
    "onnx",
}


@pytest.fixture
def folder(tmp_path):
    for name, level in zip(CLASSES, LEVELS, strict=True):
        write_image(tmp_path / "images" / f"{name}.png", level)
    return tmp_path / "images"


@pytest.fixture
def labelled(tmp_path):
    for name, level in zip(CLASSES, LEVELS, strict=True):
        for number in range(3):
            write_image(tmp_path / "labelled" / name / f"{number}.png", level + number)
    write_image(tmp_path / "labelled" / "via" / "escape.png", LEVELS[CLASSES.index("clean")])
    return tmp_path / "labelled"


def fails(done, *words):
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr


def test_one_image(command, model, folder):
    done = command("classify", folder / "via.png", "--model", model)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(folder / "via.png"), "via", done.stdout.split()[2], "accept"]
    assert done.stdout.split()[2].endswith("%")


def test_folder_with_a_bad_file(command, model, folder):
    (folder / "broken.png").write_bytes(b"\x89PNG")
    done = command("classify", folder, "--model", model, "--threads", 2)
    lines = done.stdout.splitlines()
    assert done.returncode == 1 and done.stderr == "error: 1 of 9 images could not be read\n"
    assert lines[0].split() == ["image", "class", "confidence", "decision"] and len(lines) == 10
    assert "broken.png" in lines[2] and "error: is no image" in lines[2]
    for line, name in zip(lines[1:2] + lines[3:], CLASSES, strict=True):
        assert line.split()[1] == name and line.index(name, len(str(folder)) + 1) and line.endswith("accept")
    assert len({line.index("accept") for line in lines if "accept" in line}) == 1  # aligned


def test_json_lines(command, model, folder):
    (folder / "broken.png").write_bytes(b"")
    odd = write_image(folder / "\x1b[31m bad\nname.png", LEVELS[0])
    done = command("classify", folder, folder / "absent.png", "--model", model, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(rows) == 11
    assert rows[0]["path"] == str(odd) and rows[0]["label"] == CLASSES[0]
    for row in rows:
        if "error" in row:
            assert set(row) == {"path", "error"} and row["error"].startswith(row["path"])
        else:
            assert set(row) == {"path"} | {field.name for field in fields(Prediction)}
            assert list(row["probabilities"]) == list(CLASSES)
    table = command("classify", folder, "--model", model).stdout
    assert len(table.splitlines()) == 11 and "\x1b" not in table


def test_one_bad_image(command, model, tmp_path):
    (tmp_path / "notes.png").write_text("hello")
    fails(command("classify", "notes.png", "--model", model), "notes.png", "no image")
    fails(command("classify", "absent.png", "--model", model), "absent.png", "no such file")
    done = command("classify", "notes.png", "--model", model, "--json")
    fails(done, "notes.png")
    assert json.loads(done.stdout)["error"] == done.stderr.removeprefix("error: ").strip()


def test_no_model(command, folder, tmp_path):
    fails(command("classify", folder), "models/edge/student_int8.onnx", "dvc repro", "pass another model")
    fails(command("classify", folder, "--model", folder / "via.png"), "via.png", "export_onnx")
    write_model(tmp_path / "plain.onnx", {})
    fails(command("score", folder, "--model", "plain.onnx"), "plain.onnx", "metadata")


def test_default_model(command, folder, tmp_path):
    (tmp_path / "models" / "edge").mkdir(parents=True)
    write_model(tmp_path / "models" / "edge" / "student_int8.onnx")
    assert command("classify", folder).returncode == 0


def test_empty_folder(command, model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "README.md").touch()
    fails(command("classify", "empty", "--model", model), "empty: holds no images", "png", "tiff")
    fails(command("score", "empty", "--model", model), "empty: holds no labelled images", *CLASSES)
    fails(command("score", "absent", "--model", model), "absent: no such folder")


def test_score(command, model, labelled):
    done = command("score", labelled, "--model", model)
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "images 25",
        "accuracy 96.0%",
        "mean class accuracy 96.9%",
        "defects called clean 4.5%",
        "clean called defect 0.0%",
        "sent to review 0.0%",
        "ambiguous 0.0%",
        "unknown 0.0%",
        "blank 0.0%",
        "purity of the accepted 96.0%",
        "clean 3 75.0% 100.0%",
        "via 4 100.0% 75.0%",
        "via 0 1 0 0 0 0 0 3",
    ):
        assert words in [" ".join(line.split()) for line in done.stdout.splitlines()], done.stdout


def test_score_json_with_an_unreadable_image(command, model, labelled):
    (labelled / "cmp" / "broken.png").touch()
    done = command("score", labelled, "--model", model, "--json")
    figures = json.loads(done.stdout)
    assert done.returncode == 1 and done.stderr.count("error: ") == 2
    assert figures["images"] == 25 and figures["accuracy"] == 0.96
    assert (figures["guard"]["purity"], figures["guard"]["rejection_rate"]) == (0.96, 0)
    assert [row["path"] for row in figures["unreadable"]] == [str(labelled / "cmp" / "broken.png")]
    assert figures["per_class"]["cmp"]["images"] == 3


def test_score_refuses_what_it_cannot_place(command, model, labelled):
    (labelled / ".cache").mkdir()
    (labelled / "README.md").touch()
    write_image(labelled / "loose.png", 9)
    fails(command("score", labelled, "--model", model), "loose.png", "bridge")
    (labelled / "loose.png").unlink()
    (labelled / "scratch").mkdir()
    fails(command("score", labelled, "--model", model), "scratch: is no class folder", *CLASSES)


def test_score_of_nothing_readable(command, model, tmp_path):
    (tmp_path / "labelled" / "via").mkdir(parents=True)
    (tmp_path / "labelled" / "via" / "a.png").touch()
    fails(command("score", "labelled", "--model", model), "none of its 1 images", "a.png: is empty")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("classify",),
        ("classify", "a.png", "--threads", "0"),
        ("classify", ""),
        ("watch", "a", "--review", ""),
        ("score", "a", "b"),
        ("render",),
        ("score", "--jso"),
    ],
)
def test_usage(command, arguments):
    done = command(*arguments)
    assert done.returncode == 2 and done.stderr.startswith("usage: semdefect")


def test_help_and_version(command):
    assert command("--version").stdout == f"semdefect {__version__}\n"
    assert "classify" in command("--help").stdout
    assert "data/real" in command("adopt", "--help").stdout
    for name in ("classify", "watch", "score", "bench"):
        text = command(name, "--help").stdout
        assert "examples:" in text and "models/edge/student_int8.onnx" in text


def test_reader_goes_away(model, folder):
    paths = [folder / "via.png"] * 200
    with started("classify", *paths, "--model", model, "--json", stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait(30) == 141


def test_interrupt(model, folder):
    paths = [folder / "via.png"] * 5000
    with started("classify", *paths, "--model", model, "--json", stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # arrives at once, because every line is flushed
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 130


def test_full_disk(command, model, folder):
    with Path("/dev/full").open("w") as full:
        done = command("classify", folder, "--model", model, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    fails(done, "No space left")


def test_closed_output(model, folder):
    """As under ``>&-``, where Python has no standard output at all."""
    words = [sys.executable, "-m", "semdefect.edge.cli", "classify", str(folder), "--model", str(model)]
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", *words, "--output", "r.csv"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(closing, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len((folder / "r.csv").read_text().splitlines()) > 1


@pytest.mark.parametrize(("more", "lines"), [((), 9), (("--json", "--output", "r.csv"), 8)])
def test_progress_only_on_a_terminal(command, model, folder, more, lines):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))  # nothing is drawn on a terminal of no width
    words = ("classify", folder, "--model", model, *more)
    done = command(*words, capture_output=False, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "/8" in shown and len(done.stdout.splitlines()) == lines
    assert command("classify", folder, "--model", model).stderr == ""


def test_imports_nothing_that_a_device_lacks():
    late = ["onnxruntime", "tqdm"]  # imported when needed: both cost time at the start
    names = [*FOREIGN, *late]
    code = f"import semdefect.cli, sys; print([m for m in {names} if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_run_loads_only_what_a_device_has(model, folder):
    """Every module loaded by a whole run comes from the standard library or the four packages."""
    code = (
        "import sys; from semdefect.cli import main\n"
        f"main(['classify', {str(folder)!r}, '--model', {str(model)!r}, '--output', {str(folder / 'r.csv')!r}])\n"
        f"main(['watch', {str(folder)!r}, '--model', {str(model)!r}, '--once'])\n"
        f"main(['adopt', {str(folder / 'review')!r}, '--to', {str(folder)!r}])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert not FOREIGN & set(done.stderr.split())
