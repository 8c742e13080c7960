"""The table of answers: it gives back what was written, is the same each time, small, and checked when it is read."""

import numpy as np
import pytest
from PIL import Image
from test_evaluation import EACH_TWICE, changed, outcome

from semdefect import CLASSES
from semdefect.answers import read_answers, write_answers
from semdefect.errors import UserError
from semdefect.evaluation import TestSet

SHIPPED = "student_int8"


def test_set(name, truth=EACH_TWICE):
    suffix = "" if name == "clean" else f" ({name})"
    images = [Image.new("L", (4, 4), number) for number in range(len(truth))]
    return TestSet(images, np.array(truth), [f"{CLASSES[n]}/{i}.png{suffix}" for i, n in enumerate(truth)])


test_set.__test__ = False


@pytest.fixture
def written(tmp_path):
    sets = {"clean": test_set("clean"), "noisy": test_set("noisy"), "mixed": test_set("mixed")}
    doubt = np.full(16, 0.9)
    doubt[4] = 0.3
    said = {"teacher": outcome(EACH_TWICE), SHIPPED: outcome(changed((4, 1)), doubt)}
    path = tmp_path / "metrics" / "answers.csv"
    write_answers({model: dict.fromkeys(sets, answers) for model, answers in said.items()}, sets, SHIPPED, path)
    return path


def test_what_was_written_is_read(written):
    table = read_answers(written.read_text(), "answers.csv")
    assert (table.shipped, list(table.sets)) == (SHIPPED, ["clean", "noisy"])  # mixed holds both, and has no rows
    noisy = table.sets["noisy"]
    assert noisy.images[:2] == ("bridge/0.png", "bridge/1.png")
    assert noisy.truth.tolist() == [CLASSES[number] for number in EACH_TWICE]
    assert noisy.called["teacher"].tolist() == noisy.truth.tolist()
    assert noisy.called[SHIPPED][4] == "clean" != noisy.truth[4]
    assert (noisy.guard[4], noisy.guard[3]) == ("ambiguous", "")
    assert len(set(noisy.pixels)) == 16
    some = noisy[np.array([4, 0])]
    assert some.images == ("cmp/4.png", "bridge/0.png")
    assert some.called[SHIPPED].tolist() == ["clean", "bridge"]


def test_rows_are_short(written):
    lines = written.read_text().splitlines()
    assert lines[0] == "set,image,pixels,truth,teacher,student_int8,student_int8_guard"
    assert lines[1].startswith("clean,bridge/0.png,") and lines[1].endswith(",bridge,=,=,")
    assert lines[5].endswith(",cmp,=,clean,ambiguous")


HEADER = "set,image,pixels,truth,student_int8,student_int8_guard\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its columns must be set, image, pixels, truth"),
        ("a,b\n", "its columns must be"),
        (HEADER.replace("student_int8_guard", "student_w8_guard"), "name each model once, student_w8 among them"),
        (HEADER + "clean,a,0,via,=\n", "line 2 has 5 cells instead of 6"),
        (HEADER + "clean,a,0,via,,\n", "line 2 has an empty cell"),
        (HEADER + "clean,a,0,via,=,maybe\n", "line 2 has 'maybe' where the guard's reason stands"),
        (HEADER + "clean,a,0,via,=,\nclean,a,0,via,=,\n", "line 3 lists a of clean again"),
        (HEADER + 'clean,"a,0,via,=,\n', "unexpected end of data"),
    ],
)
def test_another_table_is_refused_with_its_line(text, words):
    with pytest.raises(
        UserError, match=r"^answers\.csv of main is not a table of answers: .*dvc repro evaluate"
    ) as bad:
        read_answers(text, "answers.csv of main")
    assert words in str(bad.value)
