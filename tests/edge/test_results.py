import csv
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import LEVELS, ROOT, metadata, started, write_image, write_model
from jsonschema import Draft202012Validator

from semdefect import CLASSES
from semdefect.edge import EdgeClassifier, cli, rows
from semdefect.edge.classifier import Failure, Prediction
from semdefect.edge.inputs import _LONGEST
from semdefect.edge.metadata import METADATA_KEY
from semdefect.edge.results import DIGITS, MAX_LINE, Results
from semdefect.edge.rows import one_line
from semdefect.errors import UserError

FORMATS = ("jsonl", "csv")


@pytest.fixture
def images(tmp_path):
    """Sixty images, two of them bad."""
    folder = tmp_path / "images"
    for number in range(60):
        write_image(folder / f"{number:03d}.png", LEVELS[number % 8] + number % 3)
    (folder / "007.png").write_bytes(b"\x89PNG")
    (folder / "030.png").write_bytes(b"")
    return folder


def read(path):
    """The rows of a results file, whatever its format."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_json_lines(command, model, images, tmp_path):
    done = command("classify", images, "--model", model, "--output", "new/r.jsonl")
    assert done.returncode == 1 and done.stderr == "error: 2 of 60 images could not be read; new/r.jsonl says why\n"
    assert done.stdout == "new/r.jsonl: 60 images, 58 accept, 0 review, 2 unreadable\n"
    found = read(tmp_path / "new" / "r.jsonl")
    printed = command("classify", images, "--model", model, "--json").stdout.splitlines()
    assert [json.loads(line) for line in printed] == [{k: row[k] for k in row if k != "model"} for row in found]
    assert len({row["model"] for row in found}) == 1 and len(found[0]["model"]) == 16
    assert set(found[7]) == {"path", "error", "model"} and "no image" in found[7]["error"]


def test_rows_fit_the_documented_schema(command, model, images, tmp_path):
    schema = Draft202012Validator(json.loads((ROOT / "docs/row.schema.json").read_text()))
    write_image(images / "060.png", 251)
    write_image(images / "061.png", 33)
    command("classify", images, "--model", model, "--output", "r.jsonl")
    command("watch", images, "--model", model, "--once", "--review", "review")
    rows = [*read(tmp_path / "r.jsonl"), *read(tmp_path / "review" / "results.jsonl")]
    assert {row.get("reason") for row in rows} == {None, "ambiguous", "unknown"} and len(rows) == 124
    for row in rows:
        schema.validate(row)
    for broken in (
        {},
        {"path": "a"},
        rows[0] | {"reason": "tired"},
        rows[0] | {"mood": 1},
        rows[0] | {"confidence": 2},
    ):
        assert not schema.is_valid(broken)


def test_csv(command, model, images, tmp_path):
    command("classify", images, "--model", model, "--output", "r.csv")
    command("classify", images, "--model", model, "--output", "r.jsonl")
    for row, other in zip(read(tmp_path / "r.csv"), read(tmp_path / "r.jsonl"), strict=True):
        probabilities = other.pop("probabilities", {})
        flat = other | {f"probabilities_{name}": value for name, value in probabilities.items()}
        said = {name: str(value) for name, value in flat.items() if value is not None}
        assert {name: value for name, value in row.items() if value} == said
    header = (tmp_path / "r.csv").read_text().splitlines()[0].split(",")
    assert header[0] == "path" and "error" in header and header[-1] == "model"
    assert [name for name in header if name.startswith("prob")] == [f"probabilities_{name}" for name in CLASSES]


def test_both_follow_the_fields_of_a_prediction(monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Later(Prediction):
        operator: str | None = None

    monkeypatch.setattr(rows, "Prediction", Later)
    table = rows.Csv(("a", "b"), ("model",))
    assert table.columns[-3:] == ["operator", "error", "model"]
    result = Later("a", 0.75, "review", "ambiguous", "b", 0.1, {"a": 0.75, "b": 0.25}, False, "Ada")
    for path, made in (("x.png", result), ("y.png", Failure("y.png: is empty, copy it"))):
        content = rows.row(path, made, model="12")
        (text,) = table.rows([table.header.decode(), table.line(content).decode()])
        assert text["path"] == path and text["operator"] == ("Ada" if path == "x.png" else "")
        (again,) = rows.JsonLines().rows([rows.JsonLines().line(content).decode()])
        assert again == content


@pytest.mark.parametrize("kind", FORMATS)
def test_odd_names_are_a_line_each_and_found_again(command, model, tmp_path, kind):
    names = ['a,"b.png', "a\nb\r.png", "ü\u3000.png", os.fsdecode(b"\xff.png"), "a\\nb.png"]
    for name in names:
        write_image(tmp_path / "odd" / name, LEVELS[3])
    output = tmp_path / f"r.{kind}"
    assert command("classify", "odd", "--model", model, "--output", output).returncode == 0
    before = output.read_bytes()
    assert before.count(b"\n") == len(names) + (kind == "csv")
    assert command("classify", "odd", "--model", model, "--output", output, "--resume").returncode == 0
    assert output.read_bytes() == before


def test_the_classes_of_the_model_are_columns(model, tmp_path):
    other = write_model(tmp_path / "m.onnx", {METADATA_KEY: metadata(classes=tuple("hgfedcba")).to_json()})
    path = tmp_path / "r.csv"
    with Results(path, EdgeClassifier(other)):
        pass
    with pytest.raises(UserError, match=r"r.csv: .*its columns are not path, .*name another file"):
        Results(path, EdgeClassifier(model), resume=True)


@pytest.mark.parametrize("line", [b"x" * (MAX_LINE + 1) + b"\n", b"x" * (MAX_LINE + 1)], ids=["whole", "cut off"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_line_without_end_is_not_read(model, tmp_path, kind, line):
    path = tmp_path / f"r.{kind}"
    path.write_bytes(line)
    with pytest.raises(UserError, match=rf"r\.{kind}: has a line of more than 64 KiB; name another file"):
        Results(path, EdgeClassifier(model), resume=True)
    assert path.read_bytes() == line


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_and_resumed_gives_the_rows_of_one_run(command, model, images, tmp_path, kind, how):
    """The images come in a list that stops in the middle, so that the end comes while the program works."""
    names = [str(path) for path in sorted(images.iterdir())] * 4
    names.insert(11, "absent.png")
    wanted, output = tmp_path / f"one.{kind}", tmp_path / f"two.{kind}"
    command("classify", "-", "--model", model, "--output", wanted, input="\n".join(names))
    arguments = ("classify", "-", "--model", model, "--output", output)
    with started(*arguments, stdin=subprocess.PIPE, cwd=tmp_path) as process:
        process.stdin.write("\n".join(names[:150]) + "\n")
        process.stdin.flush()
        while not output.exists() or output.read_bytes().count(b"\n") < 40:
            time.sleep(0.005)
        process.send_signal(how)
        assert process.wait(30) == (-how if how == signal.SIGKILL else 128 + how)
        assert process.stderr.read() == ""
    left = output.read_bytes()
    assert left.endswith(b"\n") and wanted.read_bytes().startswith(left)
    output.write_bytes(left[:-30])  # as a full disk or a power cut leaves it
    done = command(*arguments, "--resume", input="\n".join(names))
    assert done.returncode == 1 and "of them from before" in done.stdout
    assert output.read_bytes() == wanted.read_bytes()


@pytest.mark.parametrize("kind", FORMATS)
def test_resumed_after_any_number_of_bytes(model, images, tmp_path, kind):
    classifier, paths = EdgeClassifier(model), sorted(images.iterdir())[5:9]

    def go_on(output):
        with Results(output, classifier, resume=True) as results:
            for path, result in classifier.stream(results.missing(paths)):
                results.write(path, result)
        return output.read_bytes()

    whole = go_on(tmp_path / f"one.{kind}")
    for length in range(0, len(whole) + 1, 7):
        (tmp_path / f"two.{kind}").write_bytes(whole[:length])
        assert go_on(tmp_path / f"two.{kind}") == whole


def test_resume_takes_new_images_and_another_order(command, model, images, tmp_path):
    command("classify", images, "--model", model, "--output", "r.jsonl")
    write_image(images / "0005.png", LEVELS[0])
    done = command("classify", images / "059.png", images, "--model", model, "--output", "r.jsonl", "--resume")
    found = [row["path"] for row in read(tmp_path / "r.jsonl")]
    assert done.returncode == 1 and "62 images" in done.stdout  # 059.png is asked for twice now
    assert sorted(found) == sorted([*map(str, images.iterdir()), str(images / "059.png")])


def refused(command, output, *words, code=1, **options):
    before = output.read_bytes() if output.is_file() else None
    done = command("classify", "images", "--output", output, *words, **options)
    assert done.returncode == code and "Traceback" not in done.stderr
    assert before is None or output.read_bytes() == before
    return done.stderr


def test_what_is_not_gone_on_with_is_left_as_it_was(command, model, images, tmp_path):
    output = tmp_path / "r.jsonl"
    command("classify", images, "--model", model, "--output", output)
    assert "r.jsonl: is there already; go on with it by --resume" in refused(command, output, "--model", model)
    with output.open("a") as file:
        file.write('{"half')
    other = write_model(tmp_path / "m.onnx", sharpness=300.0)
    assert "another model" in refused(command, output, "--model", other, "--resume")
    for content in ("[1]\n", "hello\n", '{"path": "a.png", "label": "via", "decision": "accept"}\n', '{"model": 1}\n'):
        output.write_text(content)
        message = refused(command, output, "--model", model, "--resume")
        assert message.startswith(f"error: {output}: this command cannot go on with it") and message.count("\n") == 1
    for content in ('{"path": "a", "model": "0", "error": ""}\n', '{"path": "a", "model": "0", "decision": "on"}\n'):
        output.write_text(content)
        said = refused(command, output, "--model", model, "--resume")
        assert "a row has neither an error nor the decision accept or review" in said
    table = tmp_path / "r.csv"
    for content in ("a,b\n1,2\n", "\0\n", '"\n'):
        table.write_text(content)
        assert "cannot go on with it" in refused(command, table, "--model", model, "--resume")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.jsonl", b'{"my": "annotations"}'),
        ("r.jsonl", b'{"path": "a.png", "label": "via"}'),
        ("r.jsonl", b"a"),
        ("r.csv", b"wafer,label\ra.png,via\r"),
        ("r.csv", b"p,"),
    ],
)
def test_a_file_of_somebody_else_without_a_line_end_is_left_as_it_was(model, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: is no results file; name another file"):
        Results(tmp_path / name, EdgeClassifier(model), resume=True)
    assert (tmp_path / name).read_bytes() == content


def test_a_second_writer_is_refused(command, model, images, tmp_path):
    output = tmp_path / "r.jsonl"
    with Results(output, EdgeClassifier(model)):
        assert "another semdefect is writing it" in refused(command, output, "--model", model, "--resume")


def test_usage(command, images, tmp_path):
    assert "must end in .jsonl or .csv" in refused(command, tmp_path / "r.txt", code=2)
    for words in (("images", "--resume"), ("-", "images"), ("images", "--null")):
        done = command("classify", *words)
        assert done.returncode == 2 and done.stderr.startswith("usage: semdefect classify")


def test_no_room_on_the_disk(command, model, images, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    output = tmp_path / "r.jsonl"
    assert refused(command, output, "--model", model, preexec_fn=limit) == f"error: {output}: File too large\n"
    command("classify", "images", "--model", model, "--output", output, "--resume")
    assert [row["path"] for row in read(output)] == [f"images/{number:03d}.png" for number in range(60)]


@pytest.mark.parametrize("null", [False, True])
def test_a_list_on_standard_input(command, model, images, null):
    names = [str(path) for path in sorted(images.iterdir())[:9]] + ["absent.png", str(images)]
    end, more = ("\0", ["-0"]) if null else ("\r\n", [])
    done = command("classify", "-", *more, "--model", model, "--json", input=end.join(["", *names, ""]))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and done.stderr == "error: 3 of 11 images could not be read\n"
    assert [row["path"] for row in found] == names
    assert [name for name in names if "error" in found[names.index(name)]] == [names[7], "absent.png", str(images)]
    table = command("classify", "-", *more, "--model", model, input=end.join(names)).stdout.splitlines()
    assert len(table) == 12 and table[0].split()[0] == "image" and table[1].split()[:2] == [names[0], CLASSES[0]]


def test_an_empty_list(command, model, tmp_path):
    done = command("classify", "-", "--model", model, "--output", "r.csv", input="\n\n")
    assert done.returncode == 1 and done.stderr.startswith("error: standard input: names no images; ")
    assert not (tmp_path / "r.csv").exists()


def test_the_row_of_the_longest_path_can_be_read_again():
    """Each byte may be no text, and the row of an error names the path twice."""
    path = Path(os.fsdecode(b"\xe4" * _LONGEST))
    failure = Failure(f"{one_line(str(path))}: {os.strerror(36)}; {'advice ' * 100}")
    assert len(rows.JsonLines().line(rows.row(path, failure, model="0" * DIGITS))) <= MAX_LINE


def test_a_file_that_is_called_like_standard_input(command, model, tmp_path):
    write_image(tmp_path / "a.png", LEVELS[3]).rename(tmp_path / "-")
    done = command("classify", "./-", "--model", model, "--json", input="absent.png\n")
    assert done.returncode == 0 and json.loads(done.stdout)["label"] == CLASSES[3]


@pytest.mark.parametrize("before", [0, 40])
def test_a_list_with_other_separators_is_refused(command, model, images, before):
    names = [str(path) for path in sorted(images.iterdir())]
    forgotten = "\0".join(names * 40)  # find -print0, without --null
    list_of = "".join(f"{name}\n" for name in names[:before]) + forgotten
    done = command("classify", "-", "--model", model, "--output", "r.jsonl", input=list_of)
    assert done.returncode == 1 and "pass --null where NULs end them" in done.stderr and done.stderr.count("\n") == 1
    done = command("classify", "-", "--null", "--model", model, input="\n".join(names * 400))
    assert done.returncode == 1 and done.stderr.startswith("error: standard input: holds what is no path ('")


def test_the_bar_counts_the_images_that_are_asked_for(model, images, tmp_path, monkeypatch):
    seen = {}

    def progress(results, total, shown, done):
        seen.update(total=total, done=done)
        return results

    monkeypatch.setattr(cli, "_progress", progress)
    words = ["--model", str(model), "--output", str(tmp_path / "r.jsonl")]
    cli.main(["classify", str(images), *words])
    write_image(tmp_path / "more" / "a.png", LEVELS[0])
    assert cli.main(["classify", str(tmp_path / "more"), *words, "--resume"]) == 1  # bad ones of before
    assert seen == {"total": 1, "done": 0}
    first = sorted(images.glob("*.png"))[0]
    words += ["--resume"]
    cli.main(["classify", str(first), str(tmp_path / "more"), str(write_image(tmp_path / "b.png", 9)), *words])
    assert seen == {"total": 3, "done": 2}


@pytest.mark.parametrize("more", [(), ("--json",), ("--output", "r.jsonl")])
def test_a_result_comes_before_the_next_path_is_there(model, images, tmp_path, more):
    words = ("classify", "-", "--model", model, *more)
    with started(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        for number in range(2):
            process.stdin.write(f"{images}/{number:03d}.png\n")
            process.stdin.flush()
            if more[:1] == ("--output",):
                while not (tmp_path / "r.jsonl").exists() or len(read(tmp_path / "r.jsonl")) <= number:
                    time.sleep(0.01)
            else:
                line = process.stdout.readline()
                line = process.stdout.readline() if line.startswith("image") else line
                assert f"{number:03d}.png" in line
        process.send_signal(signal.SIGINT)  # while it waits for standard input
        assert process.wait(10) == 130 and process.stderr.read() == ""


def test_memory_does_not_grow_with_the_number_of_images(model, tmp_path):
    path = write_image(tmp_path / "a.png", LEVELS[0], size=(256, 256))
    peaks = []
    for number in (100, 1500):
        code = (
            "import resource, sys; from semdefect.edge.cli import main\n"
            f"main(['classify', '-', '--model', {str(model)!r}, '--output', 'r{number}.jsonl'])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], input=f"{path}\n" * number, capture_output=True, text=True, check=True,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        peaks.append(int(done.stdout.splitlines()[-1]))  # KiB
        assert len(read(tmp_path / f"r{number}.jsonl")) == number
    assert peaks[1] < peaks[0] + 6000
