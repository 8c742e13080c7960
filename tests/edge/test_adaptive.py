"""Two models in turn: the full one answers where the cheap one is unsure, and where there is time."""

import json

import numpy as np
import pytest
from conftest import LEVELS, gray_image, guard, metadata, write_image, write_model
from PIL import Image

from benchmarks import adaptive as benchmark
from semdefect import CLASSES
from semdefect.edge import AdaptiveClassifier, EdgeClassifier, adaptive
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata
from semdefect.edge.pair import Pair
from semdefect.edge.results import Results
from semdefect.errors import UserError

FULL_SHA256 = "0123456789abcdef" * 4
SURE, UNSURE = LEVELS[2], 35  # the second lies between two classes


def write_cheap(path, enough=0.9, full_sha256=FULL_SHA256, precision="fp32", **changes):
    pair = Pair(full_sha256, enough, guard(**changes))
    about = metadata(checkpoint_sha256="f" * 64, guard=guard(1.01), pairs={precision: pair})
    return write_model(path, {METADATA_KEY: about.to_json()}, sharpness=300.0)


@pytest.fixture
def files(tmp_path):
    """A cheap file and the full one it belongs to, ``student_fast.onnx`` and ``student.onnx``."""
    (tmp_path / "models").mkdir()
    return write_cheap(tmp_path / "models/student_fast.onnx"), write_model(tmp_path / "models/student.onnx")


def pair_of(files, budget=None):
    cheap, full = map(EdgeClassifier, files)
    return AdaptiveClassifier(cheap, full, budget), cheap, full


def test_the_full_model_answers_where_the_cheap_one_is_unsure(files):
    pair, cheap, full = pair_of(files)
    sure, unsure = pair.classify(gray_image(SURE)), pair.classify(gray_image(UNSURE))
    assert not sure.escalated and unsure.escalated
    assert sure.probabilities == cheap.classify(gray_image(SURE)).probabilities
    assert unsure.probabilities == full.classify(gray_image(UNSURE)).probabilities != sure.probabilities
    assert (pair.images, pair.escalated, pair.hurried) == (2, 1, 0)
    assert pair.summary() == "adaptive: 1 of 2 images (50.0%) asked the full model"


def test_the_guard_is_that_of_the_pair(files):
    pair, cheap, _ = pair_of(files)
    assert pair.classify(gray_image(SURE)).decision == "accept"
    assert cheap.classify(gray_image(SURE)).decision == "review"  # alone it promises nothing
    assert pair.classify(gray_image(251)).reason == "unknown"


def test_a_blank_image_needs_no_second_opinion(files):
    pair, _, _ = pair_of(files)
    prediction = pair.classify(Image.new("L", (64, 48), UNSURE))
    assert (prediction.reason, prediction.escalated) == ("blank", False)


def test_without_time_the_full_model_is_left_out_and_a_person_decides(files):
    pair, cheap, _ = pair_of(files, budget=1e-6)
    assert pair.classify(gray_image(SURE)).decision == "accept"
    hurried = pair.classify(gray_image(UNSURE))
    assert (hurried.decision, hurried.reason, hurried.escalated) == ("review", "hurried", False)
    assert hurried.probabilities == cheap.classify(gray_image(UNSURE)).probabilities
    assert pair.classify(gray_image(251)).reason == "unknown"
    assert pair.hurried == 1 and "1 more were not, for want of time" in pair.summary()


class Clock:
    """Time that runs by what the models take: 2 ms the cheap one, 10 ms the full one, longer under load."""

    def __init__(self, monkeypatch, cheap, full):
        self.now, self.load, self.of_full = 0.0, 1, 1
        monkeypatch.setattr(adaptive, "perf_counter", lambda: self.now)
        for model, seconds in ((cheap, 0.002), (full, 0.010)):
            monkeypatch.setattr(model, "answers", self.timed(model.answers, seconds, model is full))

    def timed(self, answers, seconds, full):
        def slow(batch):
            self.now += seconds * self.load * (self.of_full if full else 1)
            return answers(batch)

        return slow


@pytest.fixture
def clocked(files, monkeypatch):
    cheap, full = map(EdgeClassifier, files)
    clock = Clock(monkeypatch, cheap, full)
    return AdaptiveClassifier(cheap, full, latency_budget_ms=20), clock


def escalated(pair, times=1) -> list[bool]:
    return [pair.classify(gray_image(UNSURE)).escalated for _ in range(times)]


def test_on_a_busy_processor_fewer_images_are_escalated(clocked):
    pair, clock = clocked
    found = []
    for clock.load in (1, 3, 1):
        found += escalated(pair)
    assert found == [True, False, True]


def test_a_full_model_that_has_become_slow_is_left_out_and_tried_again_now_and_then(clocked):
    pair, clock = clocked
    clock.of_full = 3  # 30 ms
    found = escalated(pair, 40)
    assert not all(found[:12]) and 0 < sum(found[12:]) < 20
    clock.of_full = 1
    assert all(escalated(pair, 40)[20:])


def test_a_single_bad_moment_changes_nothing(clocked):
    pair, clock = clocked
    clock.of_full = 50
    escalated(pair)
    clock.of_full = 1
    assert all(escalated(pair, 10))


def test_time_enough_changes_nothing(files):
    plain, budgeted = pair_of(files)[0], pair_of(files, budget=60_000)[0]
    for level in (SURE, UNSURE, 251):
        assert plain.classify(gray_image(level)) == budgeted.classify(gray_image(level))


@pytest.mark.parametrize("changes", [{"full_sha256": "a" * 64}, {"precision": "int8"}])
def test_files_that_are_no_pair_are_refused(files, changes):
    cheap, full = write_cheap(files[0], **changes), files[1]
    with pytest.raises(UserError, match=r"student_fast\.onnx: was not exported to be asked before .*student\.onnx"):
        AdaptiveClassifier(EdgeClassifier(cheap), EdgeClassifier(full))


def test_files_with_other_classes_are_refused(files, tmp_path):
    about = metadata(classes=CLASSES[::-1])
    full = EdgeClassifier(write_model(tmp_path / "other.onnx", {METADATA_KEY: about.to_json()}))
    with pytest.raises(UserError, match="was not exported to be asked before"):
        AdaptiveClassifier(EdgeClassifier(files[0]), full)


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan")])
def test_a_budget_is_above_zero(files, budget):
    with pytest.raises(UserError, match="latency budget: must be above 0 ms"):
        pair_of(files, budget)


def test_rows_of_one_model_and_of_a_pair_do_not_mix(files, tmp_path):
    pair, _, full = pair_of(files)
    with Results(tmp_path / "r.csv", full):
        pass
    with Results(tmp_path / "r.csv", full, resume=True) as results:
        image = write_image(tmp_path / "a.png", SURE)
        results.write(image, full.classify(image))
    with pytest.raises(UserError, match="has rows of another model"):
        Results(tmp_path / "r.csv", pair, resume=True)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("full_sha256", [None, "ab", 7]),
        ("enough", [None, -0.1, "1", float("nan")]),
        ("guard", [None, {}, {**guard().content(), "thresholds": [0.9] * 7}]),
    ],
)
def test_each_field_of_a_pair_is_checked(key, values):
    content = json.loads(metadata(pairs={"fp32": Pair(FULL_SHA256, 0.5, guard())}).to_json())
    assert ModelMetadata.from_json(json.dumps(content)).pairs["fp32"].enough == 0.5
    for value in values:
        changed = {"fp32": {**content["pairs"]["fp32"], key: value}}
        with pytest.raises(
            UserError, match=r"model metadata: (pairs\.)?" + ("(guard|pairs)" if key == "guard" else key)
        ):
            ModelMetadata.from_json(json.dumps({**content, "pairs": changed}))
    for pairs in (None, [], {"int4": content["pairs"]["fp32"]}):
        with pytest.raises(UserError, match="model metadata: pairs"):
            ModelMetadata.from_json(json.dumps({**content, "pairs": pairs}))


def test_on_the_command_line(command, files, tmp_path):
    for name, level in zip(CLASSES, LEVELS, strict=True):
        write_image(tmp_path / f"images/{name}.png", level)
    write_image(tmp_path / "images/between.png", UNSURE)
    done = command("classify", "images", "--model", files[1], "--adaptive", "--json")
    rows = {row["path"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert [path for path, row in rows.items() if row["escalated"]] == ["images/between.png"]
    assert done.stderr == "adaptive: 1 of 9 images (11.1%) asked the full model\n" and done.returncode == 0
    command("classify", "images", "--model", files[1], "--adaptive", "--output", "r.csv")
    assert np.sum([line.split(",")[-3] == "True" for line in (tmp_path / "r.csv").read_text().splitlines()]) == 1
    hurried = command("classify", "images", "--model", files[1], "--adaptive", "--latency-budget-ms", "1e-9")
    assert "0 of 9 images (0.0%) asked the full model; 1 more were not, for want of time" in hurried.stderr


def test_a_score_names_both_files_and_how_often_each_answered(command, files, tmp_path):
    for name, level in zip(CLASSES, LEVELS, strict=True):
        write_image(tmp_path / f"labelled/{name}/a.png", level)
    write_image(tmp_path / f"labelled/{CLASSES[0]}/between.png", UNSURE)
    done = command("score", "labelled", "--model", files[1], "--adaptive", "--json")
    figures = json.loads(done.stdout)
    assert figures["adaptive"] == {
        "cheap": str(files[0]), "latency_budget_ms": None, "images": 9, "escalated": 1, "hurried": 0
    }  # fmt: skip
    done = command("score", "labelled", "--model", files[1], "--adaptive")
    assert done.stdout.startswith(f"{files[0]} and {files[1]} on labelled") and "1 of 9 images" in done.stderr


def test_watching_with_both(command, files, tmp_path):
    write_image(tmp_path / "images/between.png", UNSURE)
    done = command("watch", "images", "--once", "--model", files[1], "--adaptive")
    (row,) = map(json.loads, (tmp_path / "images/review/results.jsonl").read_text().splitlines())
    assert row["escalated"] and "adaptive: 1 of 1 images" in done.stderr


def test_what_belongs_to_adaptive_inference_is_said(command, files, tmp_path):
    write_image(tmp_path / "a.png", SURE)
    done = command("classify", "a.png", "--model", files[1], "--latency-budget-ms", "5")
    assert done.returncode == 2 and "pass --adaptive as well" in done.stderr
    for wrong in ("0", "nan", "inf", "soon"):
        done = command("classify", "a.png", "--model", files[1], "--adaptive", "--latency-budget-ms", wrong)
        assert done.returncode == 2 and "must be a number of milliseconds above 0" in done.stderr
    files[0].unlink()
    done = command("classify", "a.png", "--model", files[1], "--adaptive")
    assert done.returncode == 1 and "student_fast.onnx: no such model" in done.stderr


def test_the_benchmark_lets_all_take_turns_on_the_same_images(files, tmp_path, monkeypatch):
    levels = [*LEVELS, UNSURE]
    paths = [write_image(tmp_path / f"{number}.png", level) for number, level in enumerate(levels)]
    truth = np.array([*range(8), 7])
    monkeypatch.setattr(benchmark, "TURN", 4)
    monkeypatch.setattr(benchmark, "PASSES", 2)
    pair, _, full = pair_of(files)
    ways = {"full": benchmark.Way(full), "adaptive": benchmark.Way(pair), "other": benchmark.Way(full, "adaptive")}
    found = benchmark.compare(ways, paths, truth)
    assert [len(way.seconds) for way in ways.values()] == [6, 6, 6]
    assert [row["accuracy"] for row in found.values()] == [8 / 9] * 3
    assert [row["escalated"] for row in found.values()] == [0, 1 / 9, 0]
    rates = {name: row["images_per_second"] for name, row in found.items()}
    beside = {"full": "full", "adaptive": "full", "other": "adaptive"}
    for name, row in found.items():
        assert row["times_as_fast"] == pytest.approx(rates[name] / rates[beside[name]])
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"bad\.png"):
        benchmark.Way(full).take([tmp_path / "bad.png"])


def test_the_benchmark_counts_no_turn_that_was_slow_once(files, monkeypatch):
    monkeypatch.setattr(benchmark, "PASSES", 3)
    _, _, full = pair_of(files)
    seconds = [1.0, 2.0, 3.0, 9.0, 2.0, 3.0, 1.0, 2.0, 30.0]  # three turns, three times each
    assert benchmark.Way(full, seconds=seconds).time_of_all() == 6.0
