"""What README.md says is so: its table is of the committed figures, its experiments can be run."""

import csv
import json
import re

import pytest
import yaml
from samples import ROOT, params_content

from semdefect import CLASSES
from semdefect.network import sem_weights
from semdefect.params import Params, check_params

README = (ROOT / "README.md").read_text(encoding="utf-8")
EXPERIMENTS = re.findall(r"dvc exp run ((?:-S \S+ ?)+)", re.sub(r"\\\n +", "", README))


SUMMARY = json.loads((ROOT / "metrics/evaluate/summary.json").read_text(encoding="utf-8"))
SETS = ("clean", "noisy", "fresh")
with (ROOT / "metrics/evaluate/answers.csv").open(encoding="utf-8", newline="") as _file:
    ANSWERS = list(csv.DictReader(_file))


def accepted(name):
    """The answers on the test set ``name`` that the INT8 file's guard accepts."""
    return [row for row in ANSWERS if row["set"] == name and not row["student_int8_guard"]]


def right_of(answers):
    """Share of ``answers`` in which the INT8 file names the true class."""
    return sum(row["student_int8"] == "=" for row in answers) / len(answers)


def test_the_table_is_of_the_committed_figures():
    accuracy = SUMMARY["accuracy"]
    files = [json.loads((ROOT / f"metrics/export_onnx/{name}.json").read_text()) for name in ("export", "fast")]
    megabytes = files[0]["megabytes"] | files[1]["megabytes"]
    rows = {
        "teacher": "teacher",
        "student FP32": "student_fp32",
        "student INT8": "student_int8",
        "student, INT8 weights": "student_w8",
        "fast student": "student_fast",
        "fast one first": "adaptive",
    }
    for title, model in rows.items():
        (line,) = re.findall(rf"^\| {title}\b.*$", README, re.MULTILINE)
        *shares, size = re.findall(r"(?<= )[\d.]+(?= %| MB)", line) + ["–"] * (model not in megabytes)
        assert shares == [f"{100 * accuracy[name][model]:.1f}" for name in ("clean", "noisy", "mixed", "fresh")], line
        assert size == (f"{megabytes[model]:.2f}" if model in megabytes else "–"), line


@pytest.mark.parametrize(
    "title, digits, figures",
    [
        ("same class as FP32", 1, SUMMARY["int8_fp32_agreement"]),
        ("guard: purity", 1, {name: right_of(accepted(name)) for name in SETS}),
        ("guard: goes to review", 0, SUMMARY["guard"]["rejection_rate"]),
    ],
)
def test_what_is_said_of_the_int8_file_is_of_the_committed_figures(title, digits, figures):
    (line,) = re.findall(rf"^\| {title}.*$", README, re.MULTILINE)
    said = [cell.removesuffix(" %") for cell in line.split(" | ")[1:4]]
    assert said == [f"{100 * figures[name]:.{digits}f}" for name in SETS]


def test_what_is_said_of_real_images_is_of_the_committed_figures():
    agreement, scored = (
        json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))
        for name in ("int8_agreement", "real_default_int8")
    )
    files, guard = agreement["files"], scored["guard"]
    same = round(files["student_int8.onnx"]["agreement"] * agreement["images"])  # else rounded twice
    gained = 100 * (files["student_int8.onnx"]["accuracy"] - files["student_fp32.onnx"]["accuracy"])
    wanted = {
        "same class as FP32": f"{100 * same / agreement['images']:.1f} %",
        "accuracy less": f"{gained:+.1f}".replace("-", "−"),
        "guard: purity": f"{100 * guard['purity']:.1f} %",
        "guard: goes to review": f"{100 * guard['rejection_rate']:.0f} %",
    }
    for title, said in wanted.items():
        (line,) = re.findall(rf"^\| {title}.*$", README, re.MULTILINE)
        assert line.removesuffix(" |").split(" | ")[-1] == said, line


def folds_result(name):
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


def cells_of(document, title):
    """The cells after the first of the only table row of ``document`` that begins with ``title``, without bold."""
    (line,) = re.findall(rf"^\| \**{title}.*$", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    return line.replace("**", "").removesuffix(" |").split(" | ")[1:]


def shares(*figures):
    return "–".join(f"{100 * figure:.1f}" for figure in figures) + " %"


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("none", "real_cv_0"),
        ("4 a class", "real_cv_4"),
        ("16 a class", "real_cv_16"),
        ("32 a class", "real_cv_32_folds0-1-3-4"),
        ("32, fold 2", "real_cv_32_fold2_0.97"),
        ("that recipe, all", "real_cv_ce8cea7"),
        ("all", "real_cv"),
    ],
)
def test_the_curve_of_real_images_is_of_the_committed_figures(title, name):
    figures = folds_result(name)
    means = [shares(figures[f"{model}_mean_class_accuracy"]) for model in ("teacher", "fp32", "int8")]
    interval = shares(*figures["int8_mean_class_accuracy_interval"])
    assert cells_of("docs/results.md", title) == [*means, interval, shares(figures["int8_fp32_agreement"])]
    if name in ("real_cv_0", "real_cv_4", "real_cv_16", "real_cv"):  # the README leaves the others to that document
        accuracy = shares(figures["int8_accuracy"])
        assert cells_of("README.md", title) == [accuracy, means[2], interval, means[0]]


@pytest.mark.parametrize(
    ("title", "model"), [("teacher", "teacher"), ("student, FP32", "fp32"), ("student, INT8", "int8")]
)
def test_the_folds_are_of_the_committed_figures(title, model):
    figures = folds_result("real_cv")
    low, high = figures[f"{model}_mean_class_accuracy_interval"]
    folds = ", ".join(f"{100 * one['mean_class_accuracy']:.1f}" for one in figures[f"{model}_folds"]) + " %"
    wanted = [shares(figures[f"{model}_accuracy"]), shares(figures[f"{model}_mean_class_accuracy"]), shares(low, high)]
    assert cells_of("docs/training.md", f"{title} \\| [^|]*\\| [^|]*\\| [0-9.]+–")[-4:] == [*wanted, folds]


def test_the_confusions_are_of_the_committed_figures():
    figures, training = folds_result("real_cv"), (ROOT / "docs/training.md").read_text(encoding="utf-8")
    table = training.partition("true \\ called")[2].partition("\n\n")[0]
    said = {
        line.split(" | ")[0].strip("| "): [int(cell) for cell in re.findall(r"\d+", line)] for line in table.split("\n")
    }
    assert {name: said[name] for name in CLASSES} == dict(zip(CLASSES, figures["int8_confusion"], strict=True))
    recalls = ", ".join(f"{name} {100 * figures['int8_recall'][name]:.0f}" for name in CLASSES)
    assert f"Recall (INT8): {recalls} %." in " ".join(re.sub(r"`(ler)`", r"\1", training).split())


def test_the_ablations_are_of_the_committed_figures():
    training = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    table = training.partition("| part | change | points |")[2].partition("\n\n")[0]
    rows = re.findall(r"\| (\**)([+−][\d.]+)\** \| ([+−][\d.]+) to ([+−][\d.]+) \| (\w{7})", table)
    assert len(rows) == table.count("\n") - 1
    assert all(bool(bold) == (low[0] == high[0]) for bold, _, low, high, _ in rows)
    with_files = [row for row in rows if row[4] != "850c4cb"]  # whose workspaces a throw-away script filled
    assert len(with_files) > 20
    for _, *words, commit in with_files:
        (file,) = (ROOT / "benchmarks/results").glob(f"ablations*_{commit}.json")
        variants = json.loads(file.read_text(encoding="utf-8"))["variants"].values()
        said = [float(word.replace("−", "-")) for word in words]
        measured = [[100 * value for value in (one["difference"], *one["difference_interval"])] for one in variants]
        assert any(one == pytest.approx(said, abs=0.0501) for one in measured), (said, commit)


@pytest.mark.parametrize("settings", EXPERIMENTS)
def test_an_experiment_has_parameters_that_go_together(settings):
    content = params_content()
    for setting in settings.removesuffix(" ").split("-S ")[1:]:
        key, value = setting.strip().split("=")
        block, name = key.split(".")
        assert name in content[block], setting
        content[block][name] = yaml.safe_load(value)
    params = check_params(content, "params.yaml", Params)
    for recipe in (params.train_teacher, params.distill):
        if recipe.init == "sem":
            assert sem_weights(recipe.model).is_file()


def test_there_are_experiments():
    assert len(EXPERIMENTS) >= 3
