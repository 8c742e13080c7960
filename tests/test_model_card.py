"""The model card: complete, true to the run it is of, and the same each time."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from samples import params, row
from test_evaluation import EACH_TWICE, changed, outcome

from semdefect import CLASSES
from semdefect.card_tables import Scored
from semdefect.edge.guard import Guard
from semdefect.edge.metadata import ModelMetadata
from semdefect.evaluation import TestSet
from semdefect.model_card import Run, learned_from, origin, write_model_card
from semdefect.network import SEM_WEIGHTS, file_sha256

#: Mitchell and others, "Model Cards for Model Reporting", section 4.
HEADINGS = [
    "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data",
    "Quantitative analyses", "Ethical considerations", "Caveats and recommendations",
]  # fmt: skip


def test_set(names):
    return TestSet([Image.new("L", (4, 4))] * 16, np.array(EACH_TWICE), names)


test_set.__test__ = False


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run on sixteen images whose student takes two cmp for clean, one of them surely."""
    monkeypatch.chdir(tmp_path)
    rows = [row(f"{CLASSES[number]}/{index}.png") for index, number in enumerate(EACH_TWICE)]
    names = [one.path for one in rows]
    sets = {"clean": test_set(names), "noisy": test_set([f"{name} (noisy)" for name in names])}
    doubt = np.full(16, 0.9)
    doubt[4] = 0.3
    student = outcome(changed((4, 1), (5, 1)), doubt)
    said = {"teacher": outcome(EACH_TWICE), "student_fp32": outcome(EACH_TWICE), "student_int8": student}
    guard = Guard((0.5,) * 8, 0.9, 0.98, 0.9)
    students = {}
    for name, precision in (("student_fp32", "fp32"), ("student_int8", "int8")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(name.encode() * 1000)
        about = ModelMetadata(CLASSES, 1.5, guard, precision, "ab" * 32)
        students[name] = SimpleNamespace(path=path.relative_to(tmp_path), metadata=about)
    (tmp_path / "teacher.safetensors").write_bytes(b"teacher")
    splits = {
        "train": [
            row("via/9.png", origin="real", family="original"),
            row("via/10.png", origin="real", family="augmented"),
        ],
        "val": [row("clean/8.png", group="rendered/clean/3.png")],
        "test": rows,
    }
    outcomes = {model: dict.fromkeys(sets, answers) for model, answers in said.items()}
    scored = Scored(sets, rows, outcomes, "student_int8")
    return Run(params(), splits, scored, students, (tmp_path / "teacher.safetensors").relative_to(tmp_path))


@pytest.fixture
def card(run, tmp_path):
    write_model_card(run, tmp_path / "metrics/MODEL_CARD.md")
    return (tmp_path / "metrics/MODEL_CARD.md").read_text()


def cells(card, *first):
    """The rest of the table row that begins with ``first``."""
    (line,) = [line for line in card.splitlines() if line.startswith(f"| {' | '.join(first)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][len(first) :]


def test_it_has_the_headings_of_the_paper_and_is_the_same_each_time(run, card, tmp_path):
    assert re.findall("^## (.*)$", card, re.MULTILINE) == HEADINGS
    write_model_card(run, tmp_path / "again.md")
    assert (tmp_path / "again.md").read_text() == card
    assert not re.search(r"None|nan|\$\w|" + re.escape(str(tmp_path)), card)


def test_figures_stand_with_their_intervals(card):
    assert cells(card, "clean", "teacher")[:2] == ["16", "100.0% (100.0–100.0)"]
    accuracy = cells(card, "noisy", "student_int8")[1]
    assert accuracy == "87.5% (87.5–87.5)"  # both images of a class are wrong or right: draws within a class are alike
    by_class = card.split("### Classes")[1].split("### The guard")[0]
    assert cells(by_class, "cmp") == ["0.0% (0.0–65.8)", "–"] * 2  # never called: no purity
    assert cells(by_class, "clean") == ["100.0% (34.2–100.0)", "50.0% (15.0–85.0)"] * 2
    assert "names the same class as `student_fp32` on 87.5% of *clean*, 87.5% of *noisy*" in card


def test_the_guard_is_held_against_its_promise(card):
    assert "a purity of at least 98.0% in what is accepted, with a probability of 90.0%" in card
    guarded = card.split("### The guard")[1]
    purity, kept, rejected, escaped, overkill = cells(guarded, "clean")
    assert purity.startswith("93.3% (") and kept == "no"  # one of fifteen
    assert rejected.startswith("6.2% (") and escaped.startswith("7.1% (") and overkill.startswith("0.0% (")


def test_data_files_and_parameters_are_of_the_run(run, card):
    assert cells(card, "train") == ["2", "1", "1", "0", "2", "0"]
    assert cells(card, "val") == ["1", "0", "0", "1", "1", "1"]
    assert "Lineage groups (an image, its children and near-duplicates) in two splits: 1." in card
    size, digits, made_from = cells(card, "`student_int8.onnx`", "int8")
    assert (size, made_from) == ("0.01 MB", f"`{'ab' * 8}`")
    assert digits == f"`{file_sha256(run.students['student_int8'].path)}`"
    assert cells(card, "`temperature`") == ["–", "2.0"]
    assert "`hub_revision`" not in card  # says nothing where no hub was asked
    assert "The class found least often is `cmp`: 0.0% of its images in *clean*." in card
    assert "No test image is a real one" in card


def test_what_a_network_learned_from_is_told():
    recipe = params().distill
    alone, beside = (learned_from(recipe.model_copy(update={"fresh_per_class": count})) for count in (0, 600))
    assert alone == "the training split alone"
    assert beside == "the training split and 600 further rendered images of each class"


def test_the_start_of_a_training_is_told_with_its_history():
    recipe = params().train_teacher
    weights = SEM_WEIGHTS / f"{recipe.model}.safetensors"
    said = origin(recipe)
    assert f"`semdefect/weights/{weights.name}` (SHA-256 `{file_sha256(weights)[:16]}`…)" in said
    told = r"made by pretraining, the last run first: \d+ views of \d+ rendered and 0 real images; \d+ epochs on \d+ "
    assert re.search(told, said)
    assert origin(recipe.model_copy(update={"init": "scratch"})) == "random weights"
    assert "hub revision `main`" in origin(recipe.model_copy(update={"init": "imagenet"}))


def test_a_file_of_weights_is_named_without_its_folder(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1)}, tmp_path / "own.safetensors")
    said = origin(params().distill.model_copy(update={"init": str(tmp_path / "own.safetensors")}))
    assert said.startswith("`own.safetensors` (SHA-256 `") and said.endswith(", of unknown origin")


def test_real_test_images_and_a_control_without_teacher_are_told(run, tmp_path):
    rows = [*run.splits["test"][:-1], row("via/15.png", origin="real", family="original")]
    sets = run.scored.sets | {"real": test_set(["via/15.png"] * 16)}
    outcomes = {model: by_set | {"real": by_set["clean"]} for model, by_set in run.scored.outcomes.items()}
    scored = Scored(sets, rows, outcomes, "student_int8")
    settings = params(distill={"alpha": 1.0})
    write_model_card(Run(settings, run.splits | {"test": rows}, scored, run.students, run.teacher), tmp_path / "c.md")
    card = (tmp_path / "c.md").read_text()
    assert (
        "of 16 test images 1 are real, 0 drawn from these, 15 rendered" in card
        and "No test image is a real one" not in card
    )
    assert "learned from labels alone" in card
