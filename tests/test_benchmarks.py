"""The benchmarks: their figures are right where the answer is known, and a tiny run goes through."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from samples import params_content, texture, written
from scipy.ndimage import gaussian_filter1d

from benchmarks import ablations, altered, curve, fold_scores, int8_agreement, real_cv, sim2real, synthesis, workspaces
from benchmarks.environment import run_benchmark, write_result
from benchmarks.real_images import RealImages, collection_sha256, load_real
from semdefect import CLASSES
from semdefect.atomic import write_json
from semdefect.errors import UserError
from semdefect.synthesis import families_of


def write_collection(folder, per_class, columns=()):
    """Labelled images of each class, as a collection of real images lists them; ``columns`` beyond the usual ones."""
    lines = [",".join(["path", "class", "original_class", *columns])]
    for number, name in enumerate(CLASSES):
        for index in range(per_class):
            path = folder / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(texture(100 * number + index)).save(path)
            lines.append(",".join([f"{name}/{index}.png", name, f"{name}_{index}", *(str(index % 2) for _ in columns)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def collection(tmp_path):
    """Two labelled images of each class."""
    return write_collection(tmp_path / "collection", 2)


@pytest.fixture
def folded(tmp_path):
    """Four labelled images of each class in two folds."""
    return write_collection(tmp_path / "folded", 4, ["fold"])


def test_a_collection_is_read_as_listed(collection):
    images = load_real(collection)
    assert [path.parent.name for path in images.paths] == [CLASSES[number] for number in images.truth]
    assert images.original[1] == "bridge_1"


def test_a_collection_needs_no_classes_of_its_own(folded):
    lines = [line.split(",") for line in (folded / "labels.csv").read_text().splitlines()]
    before = load_real(folded)
    as_by_excel = "\n".join(",".join([path, name, fold]) for path, name, _, fold in lines)
    (folded / "labels.csv").write_text(as_by_excel, encoding="utf-8-sig")
    images = load_real(folded)
    assert images.original.tolist() == [CLASSES[number] for number in images.truth]
    assert collection_sha256(images) == collection_sha256(before)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "is missing"),
        ("path,class\n", "columns"),
        ("path,defect\na.png,via\n", "first line is path,class,fold"),
        ("path,class,original_class\na.png,tidy,t\n", "tidy"),
        ("path,class,original_class\na.png,via\n", "too few"),
        ("path,class,original_class\na.png,via,via\n", "a.png, which is not there"),
        ("path,class,original_class\nlabels.csv,via,via\n", ": is no image"),
    ],
)
def test_a_broken_list_is_named(tmp_path, text, fault):
    if text is not None:
        (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=rf"labels\.csv.*{fault}"):
        load_real(tmp_path)


def test_class_folders_come_in_folds_that_no_near_duplicate_crosses(tmp_path):
    folder = write_collection(tmp_path / "own", 10)
    (folder / "labels.csv").unlink()
    for number in range(2):
        with Image.open(folder / f"via/{number}.png") as image:
            image.rotate(90).save(folder / f"via/again_{number}.png")
    images = load_real(folder)
    names = [f"{path.parent.name}/{path.name}" for path in images.paths]
    assert len(names) == 82 and images.fold.tolist() == load_real(folder).fold.tolist()
    for number in range(2):
        first, again = (images.fold[names.index(f"via/{name}.png")] for name in (number, f"again_{number}"))
        assert first == again
    for number in range(len(CLASSES)):
        held_out = np.bincount(images.fold[images.truth == number], minlength=5)
        assert len(held_out) == 5 and held_out.min() >= 1 and held_out.max() <= 3


@pytest.mark.parametrize("sigma", [2, 8])
def test_noise_is_measured_on_top_of_a_pattern(sigma):
    ramp = np.tile(np.linspace(60, 180, 256), (256, 1))
    noisy = ramp + np.random.default_rng(0).normal(0, sigma, ramp.shape)
    assert synthesis.immerkaer_noise(noisy.astype(np.uint8)) == pytest.approx(sigma, rel=0.15)


def rough_lines(sigma):
    """Lines of pitch 16 px with smooth edges that deviate by ``sigma`` px, under a little noise."""
    rng = np.random.default_rng(0)
    shift = gaussian_filter1d(rng.normal(size=(128, 16)), 2, axis=0)
    shift *= sigma / shift.std()
    x, y = np.arange(128), np.arange(128)[:, None]
    edge = np.repeat(shift, 8, axis=1)[y, x]
    away = np.abs(np.mod(x, 16) - 8 + edge) - 4
    return np.clip(128 - 60 * np.tanh(away) + rng.normal(0, 2, (128, 128)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("turn", [False, True])
def test_roughness_grows_with_the_edges_deviation(turn):
    measured = [synthesis.line_roughness(lines.T if turn else lines) for lines in map(rough_lines, (0.1, 0.4, 1.2))]
    assert measured[0] < 0.01
    assert measured[1] / measured[0] > 2 and 2 < measured[2] / measured[1] < 4


def test_an_image_without_lines_has_no_roughness():
    noise = np.random.default_rng(0).integers(0, 256, (128, 128)).astype(np.uint8)
    assert synthesis.line_roughness(noise) is None


def test_figures_are_means_over_the_seeds():
    original, each = np.array(["a", "b", "c", "c"]), np.arange(4)
    images = RealImages([], np.array([0, 0, 1, 1]), original, np.zeros(4, int), each)
    right = np.eye(len(CLASSES))[[0, 0, 1, 1]]
    half = np.eye(len(CLASSES))[[0, 2, 1, 2]]
    figures = sim2real.figures_of([{"fp32": right, "int8": half}, {"fp32": half, "int8": half}], images)
    assert (figures["accuracy"], figures["int8"]["accuracy"]) == (0.75, 0.5)
    assert figures["recall_by_original_class"] == {"a": 1.0, "b": 0.5, "c": 0.75}
    assert figures["recall"]["bridge"] == 0.75 and figures["recall"]["via"] is None
    assert figures["confusion"][0][:3] == [3, 0, 1]
    assert [one["accuracy"] for one in figures["seeds"]] == [1.0, 0.5]


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A working directory with parameters of a network that trains in seconds."""
    content = params_content()
    content["base"]["threads"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    content = yaml.safe_load((real_cv.ROOT / "pretrain/params.yaml").read_text())
    content["student"] |= {"model": "mobilenetv3_small_050", "resolution": 32, "start_resolution": 32, "batch_size": 8}
    (tmp_path / "pretrain").mkdir()
    (tmp_path / "pretrain/params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sim2real, "VALIDATION", 2)


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["sim2real", *map(str, arguments)])
    run_benchmark(sim2real.run, sim2real.parser())


def test_a_tiny_run_trains_once_and_scores_the_exported_files(collection, tiny, monkeypatch, capsys):
    budget = ("--real", collection, "--images", 3, "--epochs", 1, "--without", "bridge/fork")
    run(monkeypatch, *budget)
    path = Path("benchmarks/results/sim2real_3x1_bridge-fork_1seeds.json")
    first = path.read_text()
    figures = json.loads(first)
    assert figures["images"] == 16 == sum(map(sum, figures["confusion"]))
    assert str(collection) not in first and f"--real .../{collection.name}" in figures["command"]
    assert figures["budget"]["views"] == 24 and figures["budget"]["without"] == ["bridge/fork"]
    assert figures["budget"]["threads"] == 1 and figures["budget"]["recipe"]["init"] == "scratch"
    assert "accuracy" in capsys.readouterr().out
    trained = Path(".scratch/sim2real/3x1_bridge-fork_0/model.safetensors")
    written = trained.stat().st_mtime_ns
    run(monkeypatch, *budget)
    assert path.read_text() == first
    assert trained.stat().st_mtime_ns == written


def test_a_class_without_a_family_is_refused_before_work_starts(collection, tiny, monkeypatch):
    every = [argument for family in families_of("via") for argument in ("--without", f"via/{family}")]
    with pytest.raises(SystemExit, match=r"^error: .*no family of via"):
        run(monkeypatch, "--real", collection, *every)
    assert not Path(".scratch").exists()


def test_statistics_and_sheets_of_a_collection(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(synthesis, "SHEETS", tmp_path / "sheets")
    monkeypatch.setattr(synthesis, "COMPARED", 2)
    table = synthesis.compare(load_real(collection))
    assert table.row_count == 2 * (len(CLASSES) + 1)
    assert sorted(path.stem for path in (tmp_path / "sheets").iterdir()) == sorted(CLASSES)


def test_speed_by_class_counts_families_by_their_share(monkeypatch):
    monkeypatch.setattr(synthesis, "seconds_per_image", lambda *cell: 0.02 if cell[:2] == ("bridge", "neck") else 0.01)
    measured = synthesis.speeds()["224"]
    assert measured["classes"]["via"] == pytest.approx(100)
    share = families_of("bridge")["neck"].weight / sum(member.weight for member in families_of("bridge").values())
    assert measured["classes"]["bridge"] == pytest.approx(1 / (0.01 * (1 + share)))
    assert measured["mean"] == pytest.approx(8 / (0.01 * (8 + share)))


def test_a_family_that_is_none_is_refused_before_work_starts(collection, tiny, monkeypatch):
    with pytest.raises(SystemExit, match=r"^error: .*nope"):
        run(monkeypatch, "--real", collection, "--without", "bridge/nope")
    assert not Path(".scratch").exists()


def test_a_fold_is_never_among_the_images_that_train(folded):
    images = load_real(folded)
    every = real_cv.chosen(images, 1, None)
    assert sorted(images.fold[every].tolist()) == [0] * 16
    one = real_cv.chosen(images, 1, 1)
    assert set(one) < set(every)
    assert images.truth[one].tolist() == list(range(len(CLASSES)))
    assert len(real_cv.chosen(images, 1, 0)) == 0


def test_what_resembles_a_held_out_image_does_not_train(folded):
    shutil.copyfile(folded / "via/1.png", folded / "via/0.png")  # of folds 1 and 0
    images = load_real(folded)
    assert images.group[-4] == images.group[-3]
    assert sorted(images.paths[index].name for index in real_cv.chosen(images, 1, None))[-1:] == ["2.png"]
    assert folded / "via/0.png" not in [images.paths[index] for index in real_cv.chosen(images, 1, None)]
    lenient = load_real(folded, 1.0)  # a parameter of the pipeline does not let near-duplicates cross
    assert lenient.group.tolist() == images.group.tolist()


@pytest.mark.parametrize("before", [{"collection": "another"}, {}])
def test_folds_of_other_images_are_not_written_over(folded, tmp_path, monkeypatch, before):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["real_cv", "--real", str(folded), "--real-per-class", "1"])
    write_json(Path("benchmarks/results/real_cv_1.json"), before)
    with pytest.raises(SystemExit, match=r"^error: .*real_cv_1\.json is of other images.*pass --result NAME"):
        run_benchmark(real_cv.run, real_cv.parser())
    assert not Path(".scratch").exists()
    arguments = real_cv.parser().parse_args(["--real-per-class", "1", "--result", "mine"])
    assert real_cv.result_name(arguments, []) == "mine"
    with pytest.raises(SystemExit):
        real_cv.parser().parse_args(["--result", "../mine"])


def test_folds_that_leave_no_image_to_train_are_refused(folded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in folded.glob("*/*.png"):  # near-duplicates in both folds
        Image.fromarray(texture(1)).save(path)
    monkeypatch.setattr("sys.argv", ["real_cv", "--real", str(folded)])
    with pytest.raises(SystemExit, match=r"^error: fold 0 leaves none"):
        run_benchmark(real_cv.run, real_cv.parser())
    assert not Path(".scratch").exists()


def test_a_result_names_the_command_as_a_shell_takes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--only", "no label smoothing", "teacher, KL", "--real", str(tmp_path / "my images")]
    monkeypatch.setattr("sys.argv", ["ablations.py", *words])
    command = json.loads(write_result("one", {}).read_text())["command"]
    assert shlex.split(command)[-5:] == [*words[:-1], ".../my images"]


def test_figures_of_folds_are_means_over_them(folded):
    images = load_real(folded)
    right = np.eye(len(CLASSES))
    said = {}
    for fold in (0, 1):
        truth = images.truth[images.fold == fold]
        wrong = np.where(truth == 0, 1, truth) if fold else truth  # bridge is called clean in fold 1
        said[fold] = {"teacher": right[truth], "fp32": right[truth], "int8": right[wrong]}
    figures = fold_scores.figures_of(images, said)
    assert figures["teacher_mean_class_accuracy"] == 1 == figures["teacher_accuracy"]
    assert figures["int8_mean_class_accuracy"] == pytest.approx((1 + 7 / 8) / 2)
    assert [part["accuracy"] for part in figures["int8_folds"]] == [1.0, 14 / 16 / 1]
    # All images of a class are called the same in a fold, so that drawing them again changes no mean over classes.
    assert [part["mean_class_accuracy_interval"] for part in figures["int8_folds"]] == [[1.0, 1.0], [7 / 8, 7 / 8]]
    assert figures["int8_confusion"][0][:2] == [2, 2]
    assert figures["int8_recall"]["bridge"] == 0.5
    assert figures["int8_fp32_agreement"] == (1 + 14 / 16) / 2


def test_the_quality_profile_sets_parameters_that_there_are():
    make = ["make", "--dry-run", "quality"]
    recipe = subprocess.run(make, cwd=real_cv.ROOT, capture_output=True, text=True, check=True).stdout
    settings = re.findall(r"-S (\S+)", recipe)
    assert len(settings) > 10
    content = real_cv.changed(settings)
    assert content["distill"]["epochs"] == 32 and content["train_teacher"]["random_views"] == 1.0


def test_folds_keep_the_bars_of_the_export():
    bars = yaml.safe_load((real_cv.ROOT / "params.yaml").read_text())["export_onnx"]
    assert real_cv.changed([])["export_onnx"] == bars


@pytest.mark.parametrize("copies", [1, 4])
def test_the_interval_of_a_coin_is_as_wide_as_theory_says(copies):
    rng, rows = np.random.default_rng(1), np.arange(800 * copies)
    groups = np.repeat(np.arange(800), copies)  # copies of an image are no further evidence
    images = RealImages([], np.zeros(len(rows), int), np.array([]), groups // 400, groups)
    low, high = fold_scores.interval(images, rows, rng.integers(0, 2, 800).astype(float)[groups])
    assert (high - low) / 2 == pytest.approx(1.96 * (0.25 / 800) ** 0.5, rel=0.15)
    assert low < 0.5 < high
    assert fold_scores.interval(images, rows, np.ones(len(rows))) == [1.0, 1.0]


def test_classes_weigh_the_same_in_one_interval_and_images_in_the_other():
    truth = np.repeat([0, 1], [90, 10])
    images = RealImages([], truth, np.array([]), np.zeros(100, int), np.arange(100))
    by_class = fold_scores.interval(images, np.arange(100), (truth == 0).astype(float))
    by_image = fold_scores.interval(images, np.arange(100), (truth == 0).astype(float), by_class=False)
    assert by_class == [0.5, 0.5]
    assert by_image == [0.9, 0.9]  # every class keeps its number of images


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--real FOLDER"),
        (["--real", "FOLDED", "--set", "distill.alpha"], "--set distill.alpha: write it as block.key=value"),
        (["--real", "FOLDED", "--set", "alpha=1"], "--set alpha=1: write it as block.key=value"),
        (["--real", "FOLDED", "--set", "distill.beta=1"], "--set distill.beta=1: distill.beta is not a parameter"),
        (["--real", "FOLDED", "--set", "distil.alpha=1"], "--set distil.alpha=1: distil is not a parameter"),
        (["--real", "FOLDED", "--set", "distill.alpha=2"], "--set distill.alpha=2: distill.alpha is 2"),
        (["--real", "FOLDED", "--set", "distill.alpha=[1"], "--set distill.alpha=[1: the value cannot be read as YAML"),
        (["--real", "FOLDED", "--folds", 2], "folds 0, 1"),
        (["--real", "ONE_FOLD"], "one fold only"),
        (["--real", "COLLECTION"], "no class has 5 images"),
        (["--plot", "curve.png"], "0 measured"),
        (["--plot", ""], "name a file"),
        (["--parts", "real_cv_4"], "--parts is for the curve: pass --plot FILE too"),
        (["--real", "FOLDED", "--set", f"distill.init={'w' * 300}"], "there is no file"),
    ],
)
def test_what_cannot_be_cross_validated_is_said_before_work_starts(
    collection, folded, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    one_fold = folded.with_name("one_fold")
    shutil.copytree(folded, one_fold)
    listing = (folded / "labels.csv").read_text().splitlines()
    (one_fold / "labels.csv").write_text("\n".join([listing[0], *(f"{line[:-1]}0" for line in listing[1:])]))
    places = {"FOLDED": folded, "COLLECTION": collection, "ONE_FOLD": one_fold}
    monkeypatch.setattr("sys.argv", ["real_cv", *(str(places.get(part, part)) for part in arguments)])
    with pytest.raises(SystemExit) as refused:
        run_benchmark(real_cv.run, real_cv.parser())
    assert str(refused.value).startswith("error: ") and words in str(refused.value)
    assert not Path(".scratch").exists() and not Path("curve.png").exists()


def point(name, height, content, **more):
    figures = {"real_images": 8.0 * height, "parameters": content} | more
    for model in fold_scores.MODELS:
        figures |= {f"{model}_mean_class_accuracy": 0.7, f"{model}_mean_class_accuracy_interval": [0.6, 0.8]}
    write_json(Path("benchmarks/results") / name, figures)


def test_the_curve_is_of_one_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    point("real_cv.json", 74, {"distill": {"alpha": 0.5}, "evaluate": {"fresh_per_class": 1}})
    point("real_cv_4.json", 4, {"distill": {"alpha": 0.5}, "evaluate": {"fresh_per_class": 2}})
    point("real_cv_folds0.json", 74, {"distill": {"alpha": 0.9}})  # a trial: no point of the curve
    curve.plot(Path("curve.png"))
    with Image.open("curve.png") as picture:
        assert picture.size == (720, 480)
    point("real_cv_16.json", 16, {"distill": {"alpha": 0.9}})
    with pytest.raises(UserError, match=r"real_cv_16\.json.* and real_cv\.json are of other parameters"):
        curve.plot(Path("curve.png"))
    point("real_cv_16.json", 16, {"distill": {"alpha": 0.5}}, weights={"distill": "1f"})
    with pytest.raises(UserError, match=r"real_cv_16\.json.* are of other parameters, weights, code or images"):
        curve.plot(Path("curve.png"))
    point("real_cv_16.json", 16, {"distill": {"alpha": 0.5}}, collection="2e")
    with pytest.raises(UserError, match=r"real_cv_16\.json.* are of other parameters, weights, code or images"):
        curve.plot(Path("curve.png"))
    Path("benchmarks/results/real_cv_16.json").write_text("{")
    with pytest.raises(UserError, match=r"real_cv_16\.json is broken"):
        curve.plot(Path("curve.png"))
    Path("benchmarks/results/real_cv_16.json").write_text("{}")
    with pytest.raises(UserError, match=r"real_cv_16\.json has no real_images"):
        curve.plot(Path("curve.png"))


def part(name, folds, **more):
    heights = {f"{model}_folds": [{"fold": fold, "mean_class_accuracy": height} for fold, height in folds.items()]
               for model in fold_scores.MODELS}  # fmt: skip
    write_json(Path("benchmarks/results") / f"{name}.json", {"real_images": 256.0} | heights | more)


def test_results_of_some_folds_make_a_point_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    part("a", {0: 0.8, 1: 0.6}, code="c")
    part("b", {2: 0.4}, code="c")
    number, means = curve.joined(["a", "b"], {"code": "c"})
    assert number == 32 and means == dict.fromkeys(fold_scores.MODELS, pytest.approx(0.6))
    with pytest.raises(UserError, match="a is of other code or images"):
        curve.joined(["a", "b"], {"code": "d"})
    part("b", {1: 0.4}, code="c")
    with pytest.raises(UserError, match="a, b have a fold in common"):
        curve.joined(["a", "b"], {"code": "c"})
    for name in ("real_cv.json", "real_cv_4.json"):
        point(name, 4, {}, code="c")
    curve.plot(Path("with.png"), ["a"])
    curve.plot(Path("without.png"))
    assert Path("with.png").read_bytes() != Path("without.png").read_bytes()


TINY = {
    "base.threads": 1,  # tests run beside each other
    "synthesize.images_per_class": 12,
    "train_teacher.fresh_per_class": 2,
    "train_teacher.resolution": 32,
    "train_teacher.start_resolution": 32,
    "train_teacher.epochs": 1,
    "train_teacher.optimizer": "adamw",
    "distill.model": "mobilenetv3_small_050",
    "distill.optimizer": "adamw",
    "distill.fresh_per_class": 2,
    "distill.resolution": 32,
    "distill.start_resolution": 32,
    "distill.epochs": 1,
    "distill.int8_epochs": 1,
    "distill.fast_resolution": 32,
    "distill.fast_epochs": 1,
    "distill.fast_optimizer": "adamw",
    "train_teacher.model": "convnext_atto",
    "train_teacher.init": "scratch",
    "distill.init": "scratch",
    "export_onnx.int8_agreement": 0.0,
    "export_onnx.calibration_per_class": 0,
}


def test_a_fold_goes_through_the_stages_once(folded, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    settings = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
    arguments = ["real_cv", "--real", str(folded), "--folds", "1", "--real-per-class", "1", *settings]
    monkeypatch.setattr("sys.argv", arguments)
    run_benchmark(real_cv.run, real_cv.parser())
    assert "train_teacher" in capfd.readouterr().out
    (path,) = Path("benchmarks/results").glob("real_cv_1_folds1_*.json")
    figures = json.loads(path.read_text())
    assert figures["real_images"] == 8
    assert sum(map(sum, figures["int8_confusion"])) == 16
    (workspace,) = Path(".scratch/real_cv").glob("fold1_*")
    assert len(list(workspace.glob("data/real/*/*.png"))) == 8
    run_benchmark(real_cv.run, real_cv.parser())
    assert "fold1_" not in capfd.readouterr().out
    assert json.loads(path.read_text()) == figures
    images, content = load_real(folded), yaml.safe_load((workspace / "params.yaml").read_text())
    teachers = real_cv.measure(images, [1], 1, content, 1, teacher_alone=True)
    assert f"train_teacher taken over from {workspace.name}" in capfd.readouterr().out
    assert {name: found.shape for name, found in teachers[1].items()} == {"teacher": (16, len(CLASSES))}
    alone = fold_scores.figures_of(images, teachers)
    assert alone["teacher_mean_class_accuracy"] == figures["teacher_mean_class_accuracy"]
    assert "int8_fp32_agreement" not in alone
    (first,) = set(Path(".scratch/real_cv").glob("fold1_*")) - {workspace}
    assert [folder.name for folder in first.glob("models/*")] == ["teacher"]

    # That it is another one shows in the student: no export, no answers.
    monkeypatch.delitem(workspaces.STAGES, "export_onnx")
    monkeypatch.setattr(real_cv, "answers", lambda *_: {"teacher": np.zeros((16, len(CLASSES)))})
    real_cv.measure(images, [1], 1, content, 1, "constant learning rate")
    said = capfd.readouterr().out
    for stage in ("synthesize", "split", "train_teacher"):
        assert f"{stage} taken over from fold1_" in said
    assert "distill taken over" not in said
    (other,) = set(Path(".scratch/real_cv").glob("fold1_*")) - {workspace, first}
    assert written(other / "data/synthetic") == written(workspace / "data/synthetic")
    assert written(other / "models/teacher") == written(workspace / "models/teacher")
    assert written(other / "models/student") != written(workspace / "models/student")


FILES = [("data/real/via/00000_a.png", "1f"), ("data/real/clean/00001_b.png", "2f")]
PARAMETERS = {name: {"key": 1} for name in ("base", *workspaces.STAGES)}


@pytest.mark.parametrize(
    ("code", "files", "block", "first"),
    [
        ("other", FILES, None, "synthesize"),
        ("code", FILES[:1], None, "synthesize"),
        ("code", [("data/real/crack/00000_a.png", "1f"), FILES[1]], None, "synthesize"),  # another label
        ("code", FILES, "base", "synthesize"),
        ("code", FILES, "split", "split"),
        ("code", FILES, "distill", "distill"),
        ("code", FILES, "export_onnx", "export_onnx"),
    ],
)
def test_a_change_makes_a_stage_and_those_after_it_another(code, files, block, first):
    before = workspaces.identities("code", FILES, PARAMETERS)
    after = workspaces.identities(code, files, PARAMETERS | ({block: {"key": 2}} if block else {}))
    changed = [stage for stage in workspaces.STAGES if before[stage] != after[stage]]
    assert changed == list(workspaces.STAGES)[list(workspaces.STAGES).index(first) :]


def test_another_bar_makes_another_student():
    before = workspaces.identities("code", FILES, PARAMETERS | {"export_onnx": {"int8_agreement": 0.99}})
    after = workspaces.identities("code", FILES, PARAMETERS | {"export_onnx": {"int8_agreement": 0.97}})
    assert [stage for stage in workspaces.STAGES if before[stage] != after[stage]] == ["distill", "export_onnx"]


def test_a_part_makes_another_student_of_the_same_teacher(monkeypatch):
    def changed(first, second):
        return [stage for stage in workspaces.STAGES if first[stage] != second[stage]]

    def students(*parts):
        return [workspaces.identities("code", FILES, PARAMETERS, part) for part in parts]

    whole, plain, view = students("", "constant learning rate", "teacher sees another view")
    assert changed(whole, plain) == changed(plain, view) == ["distill", "export_onnx"]
    monkeypatch.setattr(altered, "identity", lambda part: [part, "of another file"])
    assert changed(plain, *students("constant learning rate")) == ["distill", "export_onnx"]


def test_a_variant_is_compared_with_the_one_it_names(folded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right, asked = np.eye(len(CLASSES)), []

    def measured(images, folds, per_class, content, jobs, part, teacher_alone):
        assert not teacher_alone
        recipe = content["distill"]
        asked.append((recipe["method"], recipe["random_views"], part))
        missed = {"dist": 0, "kl": 1}[recipe["method"]] if recipe["alpha"] < 1 else 2
        missed += recipe["random_views"] > 0
        answers = {}
        for fold in folds:
            truth = images.truth[images.fold == fold]
            answers[fold] = dict.fromkeys(fold_scores.MODELS, right[np.where(truth < missed, 7, truth)])
        return answers

    monkeypatch.setattr(ablations, "measure", measured)
    names = ["teacher, DIST", "teacher sees another view"]
    monkeypatch.setattr("sys.argv", ["ablations", "--real", str(folded), "--only", *names])
    run_benchmark(ablations.run, ablations.parser())
    variants = json.loads(Path("benchmarks/results/ablations.json").read_text())["variants"]
    differences = {name: one["difference"] for name, one in variants.items()}
    gains = {"reference": 0, "teacher, KL": 1 / 8, "teacher, DIST": 1 / 8}
    views = {"teacher, random views": -1 / 8, "teacher sees another view": 0}
    assert differences == pytest.approx(gains | views)
    assert asked[:3] == [("kl", 0.0, ""), ("kl", 0.0, ""), ("dist", 0.0, "")]
    assert asked[3:] == [("kl", 1.0, ""), ("kl", 1.0, "teacher sees another view")]


def test_a_variant_of_the_teacher_trains_no_student(folded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def measured(images, folds, per_class, content, jobs, part, teacher_alone):
        assert teacher_alone
        missed = content["train_teacher"]["epochs"] == 1
        truths = {fold: images.truth[images.fold == fold] for fold in folds}
        return {
            fold: {"teacher": np.eye(len(CLASSES))[np.where(truth < missed, 7, truth)]}
            for fold, truth in truths.items()
        }

    monkeypatch.setattr(ablations, "measure", measured)
    monkeypatch.setattr("sys.argv", ["ablations", "--real", str(folded), "--only", "teacher itself, three epochs"])
    run_benchmark(ablations.run, ablations.parser())
    variants = json.loads(Path("benchmarks/results/ablations.json").read_text())["variants"]
    assert {name: one["teacher_mean_class_accuracy"] for name, one in variants.items()} == pytest.approx(
        {"teacher itself": 7 / 8, "teacher itself, three epochs": 1}
    )
    assert variants["teacher itself, three epochs"]["difference"] == pytest.approx(1 / 8)


def test_only_results_of_the_same_identity_are_taken_over_even_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, identity in (("fold0_a", "1f"), ("fold0_b", "2f")):
        (workspaces.SCRATCH / name / "data/splits").mkdir(parents=True)
        (workspaces.SCRATCH / name / "data/splits/train.csv").write_text(identity)
        workspaces.mark(workspaces.SCRATCH / name / ".finished_split", identity)
    workspace = workspaces.SCRATCH / "fold0_c"
    assert not workspaces.take_over(workspace, "split", "3f")
    assert not workspace.exists()
    (workspace / "data/splits").mkdir(parents=True)
    (workspace / "data/splits/train.csv").write_text("half")
    assert workspaces.take_over(workspace, "split", "2f")
    assert (workspace / "data/splits/train.csv").read_text() == "2f"


def test_a_class_without_real_images_has_no_folder_in_a_workspace(folded, tmp_path):
    images = load_real(folded)
    workspaces.prepare(tmp_path / "none", images, np.array([], np.int64), real_cv.changed([]))
    assert list((tmp_path / "none/data/real").iterdir()) == []
    workspaces.prepare(tmp_path / "via", images, np.flatnonzero(images.truth == CLASSES.index("via")), {})
    assert [folder.name for folder in (tmp_path / "via/data/real").iterdir()] == ["via"]


def test_two_benchmarks_do_not_share_their_workspaces(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspaces.SCRATCH.mkdir(parents=True)
    with workspaces.alone(), pytest.raises(UserError, match="in use by another benchmark"), workspaces.alone():
        pass
    with workspaces.alone():
        pass


SLOW_STAGE = """
import os, time
from pathlib import Path
Path("pid").write_text(str(os.getpid()))
while len(list(Path("..").glob("fold*/pid"))) < 2:
    time.sleep(0.05)
time.sleep(0.2 if "fold1" in str(Path.cwd()) else 600)
raise SystemExit("error: broken on purpose")
"""


def test_no_stage_outlives_a_benchmark_that_fails(folded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/slow.py").write_text(SLOW_STAGE)
    content = (real_cv.ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(content)
    monkeypatch.setattr(workspaces, "ROOT", tmp_path)
    monkeypatch.setattr(real_cv, "ROOT", tmp_path)
    monkeypatch.setattr(workspaces, "STAGES", {"slow": "data"})
    monkeypatch.setattr("sys.argv", ["real_cv", "--real", str(folded), "--jobs", "2"])
    with pytest.raises(SystemExit, match="stage slow failed"):
        run_benchmark(real_cv.run, real_cv.parser())
    pids = [int(path.read_text()) for path in Path(".scratch/real_cv").glob("*/pid")]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


REFUSING_STAGE = """
from pathlib import Path
Path("ran").touch()
raise SystemExit("error: disagree" if "fold1" in str(Path.cwd()) else 0)
"""


def test_a_refused_fold_leaves_the_others_their_scores(folded, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/export_onnx.py").write_text(REFUSING_STAGE)
    (tmp_path / "params.yaml").write_text((real_cv.ROOT / "params.yaml").read_text())
    monkeypatch.setattr(workspaces, "ROOT", tmp_path)
    monkeypatch.setattr(real_cv, "ROOT", tmp_path)
    monkeypatch.setattr(workspaces, "STAGES", {"export_onnx": "models/edge"})
    images = load_real(folded)
    monkeypatch.setattr(
        real_cv, "answers", lambda *_: dict.fromkeys(fold_scores.MODELS, np.eye(8)[images.truth[images.fold == 0]])
    )
    monkeypatch.setattr("sys.argv", ["real_cv", "--real", str(folded)])
    with pytest.raises(SystemExit, match=r"refused fold 1, .*export_onnx\.int8_agreement=0\.97.*--set"):
        run_benchmark(real_cv.run, real_cv.parser())
    assert "fold 0" in capfd.readouterr().out
    assert len(list(Path(".scratch/real_cv").glob("fold*/ran"))) == 2
    assert not Path("benchmarks/results").exists()


@pytest.mark.parametrize(("per_class", "jobs"), [(1, 2), (0, 1)])
def test_without_real_images_folds_share_a_workspace_and_all_threads(folded, tmp_path, monkeypatch, per_class, jobs):
    monkeypatch.chdir(tmp_path)
    images, asked = load_real(folded), []

    def measured(_images, folds, _per_class, _content, at_a_time):
        asked.append(at_a_time)
        right = {fold: np.eye(len(CLASSES))[images.truth[images.fold == fold]] for fold in folds}
        return {fold: dict.fromkeys(fold_scores.MODELS, one) for fold, one in right.items()}

    monkeypatch.setattr(real_cv, "measure", measured)
    monkeypatch.setattr(
        "sys.argv", ["real_cv", "--real", str(folded), "--jobs", "2", "--real-per-class", str(per_class)]
    )
    run_benchmark(real_cv.run, real_cv.parser())
    figures = json.loads(Path(f"benchmarks/results/real_cv_{per_class}.json").read_text())
    assert asked == [figures["jobs"]] == [jobs]
    assert figures["threads"] == figures["parameters"]["base"]["threads"] // jobs


def test_a_variant_is_compared_on_the_same_images(folded):
    images = load_real(folded)
    right, said, reference = np.eye(len(CLASSES)), {}, {}
    for fold in (0, 1):
        truth = images.truth[images.fold == fold]
        said[fold] = dict.fromkeys(fold_scores.MODELS, right[truth])
        wrong = np.where(truth == 0, 1, truth)  # every bridge is called clean
        reference[fold] = dict.fromkeys(fold_scores.MODELS, right[wrong])
    figures = ablations.compared(images, said, reference)
    assert figures["int8_mean_class_accuracy"] == 1
    assert figures["difference"] == pytest.approx(1 / 8)
    assert figures["difference_interval"] == pytest.approx([1 / 8, 1 / 8])  # no image of a class differs from another
    assert ablations.compared(images, said, said)["difference_interval"] == [0.0, 0.0]


def test_every_variant_is_a_recipe():
    assert len(set(map(ablations.recipe_sha256, ablations.VARIANTS))) == len(ablations.VARIANTS)
    assert {variant.part for variant in ablations.VARIANTS.values()} == {"", *altered.PARTS}
    order = list(ablations.VARIANTS)
    for name, variant in ablations.VARIANTS.items():
        assert order.index(variant.against) <= order.index(name)  # which is measured before it
        if variant.part == "input at a fixed scale":
            assert "distill.alpha=1.0" in variant.settings  # a teacher's answers would change too


def test_a_variant_is_another_where_it_is_compared_with_another(monkeypatch):
    before = ablations.recipe_sha256("teacher, DIST")
    monkeypatch.setitem(ablations.VARIANTS, "teacher, KL", ablations.taught("distill.alpha=0.9", against="reference"))
    assert ablations.recipe_sha256("teacher, DIST") != before
    before = ablations.recipe_sha256("constant learning rate")
    monkeypatch.setattr(altered, "identity", lambda part: [part, "of another file"])
    assert ablations.recipe_sha256("constant learning rate") != before


def test_what_a_variant_is_compared_with_is_measured_too():
    assert ablations.asked_for(["teacher, DIST"]) == ["reference", "teacher, KL", "teacher, DIST"]
    assert ablations.asked_for(None) == list(ablations.VARIANTS)


def test_ablations_list_their_variants_without_images(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ablations", "--list"])
    run_benchmark(ablations.run, ablations.parser())
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines[2:]] == list(ablations.VARIANTS)[1:]
    assert "Muon: distill.optimizer=muon; against reference" in lines
    assert "teacher, DIST: distill.method=dist; against teacher, KL" in lines
    assert "teacher itself, three epochs: train_teacher.epochs=3; against teacher itself" in lines
    assert any(line.startswith("constant learning rate: its peak at every step") for line in lines)


def test_ablations_keep_what_the_same_code_has_measured(folded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    right = np.eye(len(CLASSES))
    asked = []

    def measured(images, folds, per_class, content, jobs, part, teacher_alone):
        asked.append(content["distill"]["optimizer"])
        return {fold: dict.fromkeys(fold_scores.MODELS, right[images.truth[images.fold == fold]]) for fold in folds}

    def run_with(*arguments):
        monkeypatch.setattr("sys.argv", ["ablations", "--real", str(folded), *arguments])
        run_benchmark(ablations.run, ablations.parser())

    def kept():
        return set(json.loads(Path("benchmarks/results/ablations.json").read_text())["variants"])

    monkeypatch.setattr(ablations, "measure", measured)
    default = real_cv.changed([])["distill"]["optimizer"]
    run_with("--only", "Muon")
    run_with("--only", "label smoothing")
    assert asked == [default, "muon", default, default]
    assert kept() == {"reference", "Muon", "label smoothing"}
    run_with("--only", "Muon", "--folds", "0")  # beside it
    assert kept() == {"reference", "Muon", "label smoothing"}
    monkeypatch.setitem(ablations.VARIANTS, "reference", ablations.Variant())
    run_with("--only", "Muon")
    assert kept() == {"reference", "Muon"}
    monkeypatch.setitem(ablations.VARIANTS, "Muon", ablations.alone("distill.epochs=1"))
    run_with("--only", "label smoothing")
    assert kept() == {"reference", "label smoothing"}  # what its name stands for has changed
    monkeypatch.setattr(ablations, "code_hash", lambda: "other")
    monkeypatch.setattr(ablations, "require_code", lambda code: None)
    run_with("--only", "batches of 16")
    assert kept() == {"reference", "batches of 16"}
    assert "written over: label smoothing, reference" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["ablations", "--real", str(folded), "--only", "sorcery"])
    with pytest.raises(SystemExit, match="no such variant"):
        run_benchmark(ablations.run, ablations.parser())


def test_agreement_is_with_fp32_and_not_with_the_truth():
    truth = np.array([0, 1, 2, 3])
    right, once_wrong = np.eye(8)[truth], np.eye(8)[[0, 1, 2, 7]]
    said = {"student_fp32.onnx": once_wrong, "student_int8.onnx": right, "student_w8.onnx": once_wrong}
    found = int8_agreement.figures(said, truth)
    assert [found[name]["agreement"] for name in said] == [1, 3 / 4, 1]
    assert [found[name]["accuracy"] for name in said] == [3 / 4, 1, 3 / 4]
