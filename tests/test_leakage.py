"""The benchmark of leaks: what it takes for bases and for elsewhere, how it splits, and what it makes of answers."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from samples import params, row, texture

from benchmarks import leakage, leakage_data, leakage_figures
from benchmarks.environment import run_benchmark
from benchmarks.leakage_data import augmented_jobs, draw_of, make_data, split_by
from benchmarks.leakage_figures import Scored, figures_of
from benchmarks.real_images import RealImages, load_real
from semdefect import CLASSES
from semdefect.balance import BaseImage
from semdefect.errors import UserError
from semdefect.manifest import IMAGES, SPLITS, read_manifest

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """Ten labelled images of each class in two folds; of each class the first in fold 0 and the last in 1 are one."""
    folder = tmp_path_factory.mktemp("collection")
    lines = ["path,class,original_class,fold"]
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for index in range(10):
            Image.fromarray(texture(100 * number + index % 9)).save(folder / name / f"{index}.png")
            lines.append(f"{name}/{index}.png,{name},{name},{index // 5}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["leakage", *map(str, arguments)])
    run_benchmark(leakage.run, leakage.parser())


def test_nothing_elsewhere_is_or_resembles_a_base_image(collection):
    images = load_real(collection)
    draw = draw_of(images, 0, 5)
    assert len(draw.bases) == 40 and set(images.fold[draw.bases]) == {0}
    assert len(draw.elsewhere) == 4 * 8 and set(images.fold[draw.elsewhere]) == {1}
    assert not set(images.group[draw.bases]) & set(images.group[draw.elsewhere])


def test_base_images_are_no_copies_of_each_other_and_no_more_than_asked_for():
    group = np.arange(40) // 2  # each image twice
    images = RealImages([], np.repeat(np.arange(8), 5), np.array([""] * 40), np.zeros(40, int), group)
    with pytest.raises(UserError, match=r"fold 0 has 3 images of bridge .* needs 4"):
        draw_of(images, 0, 4)
    images = RealImages([], np.repeat(np.arange(8), 12), np.array([""] * 96), np.zeros(96, int), np.arange(96) // 2)
    assert Counter(images.truth[draw_of(images, 0, 4).bases]) == dict.fromkeys(range(8), 4)
    bases = draw_of(images, 0, 17).bases
    assert len(set(images.group[bases])) == len(bases) == 48


def test_children_are_shared_out_among_the_base_images():
    bases = [
        BaseImage(Path(f"{name}/{n}.png"), name, f"{name}/{n}", f"real-{name}{n}") for name in CLASSES for n in "ab"
    ]
    jobs = augmented_jobs(bases, 7, seed=3)
    assert Counter(job.label for job in jobs) == dict.fromkeys(CLASSES, 7)
    assert sum(not job.augmented for job in jobs) == len(bases)
    assert max(Counter(job.base for job in jobs).values()) == 4
    assert len({job.seed for job in jobs}) == len(jobs) == len({job.path for job in jobs})


def test_only_the_random_split_shares_base_images():
    rows = [row(f"{name}/{n}.png", group=f"{name}{n % 5}") for name in CLASSES for n in range(40)]
    crossing = {}
    for kind in leakage_data.KINDS:
        splits = split_by(kind, rows, SHARES, seed=1)
        assert sorted(one.path for part in splits.values() for one in part) == sorted(one.path for one in rows)
        groups = [{one.group for one in part} for part in splits.values()]
        crossing[kind] = groups[0] & groups[2]
    assert crossing["lineage"] == set() and len(crossing["random"]) > 20


def test_a_workspace_gets_data_of_its_kind_once_and_the_later_stages_run(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(leakage, "run_stages", lambda folder, code, wanted, children: asked.append(list(wanted)))
    content = leakage.recipe("scratch")
    assert content["distill"]["random_views"] == 1.0  # as when its figures were measured; the default is none
    content["synthesize"] |= {"images_per_class": 8, "image_size": 64}
    images = load_real(collection)
    draw = draw_of(images, 0, 4)
    made = {kind: leakage.train(images, draw, kind, content, "code", None) for kind in leakage.KINDS}
    for workspace in made.values():
        rows = read_manifest(workspace / IMAGES / "manifest.csv")
        assert Counter(one.family for one in rows) == {"original": 32, "augmented": 32}
        assert sum(len(read_manifest(workspace / SPLITS / f"{name}.csv")) for name in SHARES) == 64
        assert (workspace / "models/teacher/model.safetensors").is_file()
    monkeypatch.setattr(leakage, "make_data", lambda *_: pytest.fail("made again"))
    assert leakage.train(images, draw, "random", content, "code", None) == made["random"]
    assert asked == 3 * [["distill", "export_onnx"]]
    assert leakage.workspace_of(images, draw, "random", leakage.recipe("sem"), "code")[0] != made["random"]


def test_data_are_the_same_each_time(collection, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "data/real").mkdir(parents=True)
        for label in CLASSES:
            (tmp_path / name / "data/real" / label).symlink_to(collection / label)
        settings = params(synthesize={"images_per_class": 12, "image_size": 64}, split=SHARES)
        make_data(tmp_path / name, "lineage", settings)
    for file in ("data/splits/test.csv", "data/synthetic/via/00011_augmented.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def scored(truth, predicted, group=None, accepted=None):
    truth, predicted = np.array(truth), np.array(predicted)
    group = np.arange(len(truth)) if group is None else np.array(group)
    accepted = np.ones(len(truth), bool) if accepted is None else np.array(accepted)
    return Scored(truth, group, predicted, truth, accepted)


def draws():
    """Two draws: everything right where it leaks, half of it by lineage, a quarter elsewhere."""
    leaky = scored([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 2, 3])
    lineage = scored([0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1])
    away = scored([0, 1, 1, 1], [0, 0, 0, 0], accepted=[True, True, False, False])
    nothing = scored([0, 1], [1, 0], accepted=[False, False])
    one = {"leaky_split": leaky, "lineage_split": lineage, "elsewhere": away, "elsewhere_of_lineage": nothing}
    return [one, one | {"leaky_split": scored([0, 1], [0, 0])}]


def test_figures_are_means_over_draws_with_each_draw_beside():
    figures = figures_of(draws())
    assert figures["leaky_split"]["accuracy"] == pytest.approx(0.75)
    assert [one["accuracy"] for one in figures["leaky_split"]["draws"]] == [1.0, 0.5]
    assert figures["lineage_split"]["accuracy"] == 0.5
    assert figures["lineage_split"]["base_images"] == 2 and figures["lineage_split"]["images"] == 4
    assert figures["elsewhere"]["accuracy"] == 0.25 and figures["elsewhere"]["mean_class_accuracy"] == 0.5
    assert (figures["elsewhere"]["accepted"], figures["elsewhere_of_lineage"]["accepted"]) == (0.5, 0.0)
    assert figures["elsewhere"]["fp32_accuracy"] == 1.0
    assert figures["gap"] == pytest.approx(0.75 - 0.25)
    low, high = figures["lineage_split"]["interval"]
    assert low == high == 0.5  # a class of one base image tells nothing of another


def test_files_are_asked_for_the_right_images(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = load_real(collection)
    draw = draw_of(images, 0, 5)

    def said(model, paths, threads):  # right about originals, INT8 about those elsewhere only in its own folder
        wrong = "lineage" in str(model) and "int8" in model.stem
        names = [path.parent.name for path in paths]
        return [
            SimpleNamespace(label="via" if wrong else name, decision="review" if wrong else "accept") for name in names
        ]

    for kind in leakage.KINDS:
        (tmp_path / kind / "data/real").mkdir(parents=True)
        for label in CLASSES:
            (tmp_path / kind / "data/real" / label).symlink_to(collection / label)
        make_data(tmp_path / kind, kind, params(synthesize={"images_per_class": 12, "image_size": 64}, split=SHARES))
    monkeypatch.setattr(leakage, "predictions", said)
    answers = leakage.score({kind: tmp_path / kind for kind in leakage.KINDS}, images, draw)
    figures = figures_of([answers])
    assert figures["leaky_split"]["accuracy"] == figures["elsewhere"]["accuracy"] == 1.0
    assert figures["lineage_split"]["mean_class_accuracy"] == figures["elsewhere_of_lineage"]["accuracy"] == 1 / 8
    assert figures["elsewhere_of_lineage"]["fp32_accuracy"] == 1.0
    assert figures["elsewhere"]["images"] == 32 and figures["elsewhere_of_lineage"]["accepted"] == 0.0


def test_a_run_writes_its_figures_and_the_picture_is_drawn_from_them(collection, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(leakage, "measure", lambda images, folds, *_: draws()[: len(folds)])
    run(monkeypatch, "--real", collection)
    run(monkeypatch, "--real", collection, "--init", "sem", "--draws", 2, "--bases", 4)
    found = sorted(path.name for path in Path("benchmarks/results").glob("*.json"))
    assert found == ["leakage.json", "leakage_sem_bases4_draws2.json"]
    figures = json.loads(Path("benchmarks/results/leakage.json").read_text())
    assert figures["leaky_split"]["accuracy"] == 1.0 and figures["base_images"] == [dict.fromkeys(CLASSES, 5)]
    assert figures["parameters"]["distill"]["alpha"] == 1.0 and figures["start"] == "scratch"
    assert "random split after augmentation" in capsys.readouterr().out
    run(monkeypatch, "--plot", "leakage.png")
    assert Image.open("leakage.png").format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "--real FOLDER is missing"),
        (["--real", "nowhere"], "labels.csv is missing"),
        (["--plot", "leakage.png"], "measure first"),
        (["--plot", "."], "name a file"),
    ],
)
def test_what_is_missing_is_said(arguments, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=fault):
        run(monkeypatch, *arguments)


def test_more_draws_than_folds_are_refused(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"--draws 3: .* has 2 folds"):
        run(monkeypatch, "--real", collection, "--draws", 3)


def test_the_picture_names_each_recipe_that_is_measured():
    assert set(leakage_figures.RECIPES) == {"leakage", "leakage_sem"}
