"""Exported files: nothing of this machine inside, and none at all below the bars."""

import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from samples import ROOT, image_set, params, rounded_network, tiny_network, write_split

from semdefect import CLASSES, agreement, variants
from semdefect.calibration_data import calibration_images
from semdefect.device import create_accelerator
from semdefect.edge.adaptive import AdaptiveClassifier
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.guard import ACCEPTED, UNKNOWN
from semdefect.edge.image import open_gray, to_tensor
from semdefect.errors import UserError
from semdefect.export import calibrated_guard, export_student
from semdefect.export_fast import export_fast
from semdefect.images import load_images
from semdefect.manifest import IMAGES, read_manifest, write_manifest
from semdefect.network import SemNetwork, file_sha256, load_network, predict, save_network
from semdefect.onnx_graph import to_onnx
from semdefect.rounding import set_precision
from semdefect.variants import int8_agreement
from stages import distill

#: Random weights stand in for a trained student: their logits are larger, and INT8 need not agree as closely.
BARS = params(export_onnx={"int8_agreement": 0.5, "torch_tolerance": 0.002}).export_onnx
CHECKPOINT, EDGE, METRICS = Path("models/student/model.safetensors"), Path("models/edge"), Path("metrics/export.json")
SHORT = Path("models/student/fast.safetensors")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with a validation split, a student and its exported files."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_split("val", per_class=2)
        save_network(rounded_network(), CHECKPOINT)
        edge, metrics = folder / EDGE, folder / METRICS  # nothing of these paths may come into the files
        export_student(folder / CHECKPOINT, edge, metrics, BARS, plain(), threads=1)
        save_network(shortened(), SHORT)
        export_fast(folder / SHORT, edge, metrics.with_name("fast.json"), BARS, plain(), threads=1)
    return folder


def plain():
    """The validation split alone."""
    return calibration_images(0, seed=0)


def shortened():
    network = rounded_network()
    network.shorten()
    return network


@pytest.fixture
def inside(project, monkeypatch):
    """The same folder as the working directory."""
    monkeypatch.chdir(project)
    return project


def names(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


@pytest.fixture
def exported_before(inside, monkeypatch):
    """Take the graphs from the first time that each is asked for: tracing a network takes ten seconds."""
    monkeypatch.setattr(variants, "to_onnx", traced_once)


@cache
def traced(checkpoint: bytes, int8: bool) -> bytes:
    network = load_network(CHECKPOINT)
    set_precision(network, "int8" if int8 else "fp32")
    return to_onnx(network).SerializeToString()


def traced_once(network):
    """`to_onnx` of the fixture's student."""
    return onnx.load_from_string(traced(CHECKPOINT.read_bytes(), network.backbone.conv_stem.active))


def test_the_guard_promises_nothing_that_the_validation_images_do_not_show():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 400)
    probabilities = np.full((400, 8), 0.01)
    probabilities[np.arange(400), labels] = 0.93
    strange = rng.uniform(0, 0.2, 400)
    strange[:10] = 0.9
    probabilities[:10] = np.roll(probabilities[:10], 1, axis=1)  # the strange ones are called wrongly
    asked = {"target_purity": 0.98, "guard_confidence": 0.9, "unknown_false_alarms": 0.05}
    bars = params(export_onnx=asked).export_onnx
    guard = calibrated_guard(probabilities, strange, labels, bars)
    assert 0.15 < guard.unknown < 0.9  # at most 5 % of such images, surely
    assert max(guard.thresholds) == pytest.approx(0.93, abs=1e-5) and guard.target_purity == 0.98
    codes = guard.codes(probabilities, strange)
    assert (codes[:10] == UNKNOWN).all() and (codes[10:] == ACCEPTED).mean() > 0.95
    few = calibrated_guard(probabilities[:30], strange[:30], labels[:30], bars)
    assert min(few.thresholds) > 1 and few.unknown > 1


FILES = ["student_fp32.onnx", "student_int8.onnx", "student_w8.onnx"]
FAST = "student_fast.onnx"


def test_single_files_and_figures_are_written(inside):
    assert names(EDGE) == [FAST, *FILES]
    figures = json.loads(METRICS.read_text())
    assert set(figures) == {
        "int8_fp32_agreement_val", "w8_fp32_agreement_val", "onnx_torch_difference_below",
        "temperature", "calibration_images", "guard", "megabytes",
    }  # fmt: skip
    assert figures["onnx_torch_difference_below"] <= BARS.torch_tolerance * 10
    for name, megabytes in figures["megabytes"].items():
        assert megabytes == pytest.approx((EDGE / f"{name}.onnx").stat().st_size / 1e6, abs=0.006)


def test_what_rounding_costs_is_told_by_file_and_by_tensor(inside):
    figures = json.loads(METRICS.with_name("quantization.json").read_text())
    ratios, worst = figures["tensors_signal_to_noise_db"], figures["worst_tensors"]
    assert len(worst) == 10 and worst == sorted(ratios, key=ratios.get)[:10]
    assert set(figures["agreement_val"]) == set(figures["logits_signal_to_noise_db"]) == {"int8", "int8-weights"}
    noise = figures["logits_signal_to_noise_db"]
    assert noise["int8-weights"] > noise["int8"] > 3  # random weights spread noise more than trained ones


def test_agreement_can_be_told_before_there_are_files(exported_before):
    """Of a student that has no score of unknown images yet."""
    network, figures = load_network(CHECKPOINT), json.loads(METRICS.read_text())
    images = load_images(read_manifest(Path("data/splits/val.csv")), 224)
    network.unknown = None
    before = predict(network, images.pixels)
    found = int8_agreement(network, images, threads=1)
    assert found == pytest.approx(min(figures["int8_fp32_agreement_val"], figures["w8_fp32_agreement_val"]), abs=1e-6)
    assert network.unknown is None and torch.equal(predict(network, images.pixels), before)


def test_distill_trains_until_the_bar_of_the_export_is_reached(inside, tmp_path, monkeypatch):
    checked = params(
        distill={"resolution": 64, "start_resolution": 64, "batch_size": 8, "int8_epochs": 1, "int8_further_epochs": 3},
        base={"threads": 1, "device": "cpu", "precision": "fp32"},
    )
    asked, shares = [], [0.5, 0.6, 0.96, 0.97]

    def measured(network, images, threads):
        asked.append((type(network), tuple(images.pixels.shape), threads))
        return shares[len(asked) - 1]

    monkeypatch.setattr(agreement, "OTHER_RANGES", 1)
    monkeypatch.setattr(agreement, "CALIBRATION", 4)
    monkeypatch.setattr(distill, "int8_agreement", measured)
    monkeypatch.setattr(distill, "TAUGHT", CHECKPOINT)
    monkeypatch.setattr(distill, "AGREEING", tmp_path / "agreeing.safetensors")
    monkeypatch.setattr(distill, "METRICS", tmp_path / "metrics")
    accelerator = create_accelerator(checked.base, bf16_pays=False)
    trainer = distill.agree(checked.distill, checked.base, image_set(1, 64), accelerator, 0.95)
    trainer.checkpoint.discard()
    assert trainer.rate_key == "distill.int8_learning_rate"  # as messages name it
    assert asked == [(SemNetwork, (16, 1, 224, 224), 1)] * 3
    curve = (tmp_path / "metrics/int8/plots/metrics/val/int8_agreement.tsv").read_text().split()
    assert curve[-4:] == ["0", "0.6", "1", "0.96"]


def test_a_student_without_an_int8_side_is_refused(inside, tmp_path):
    save_network(tiny_network(), tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="has not learned all that a student learns: run `dvc repro distill`"):
        export_student(
            tmp_path / "plain.safetensors", tmp_path / "edge", tmp_path / "export.json", BARS, plain(), threads=1
        )
    assert not (tmp_path / "edge").exists()


@pytest.mark.parametrize(("precision", "stated"), [("fp32", "fp32"), ("int8", "int8"), ("w8", "int8-weights")])
def test_the_device_reads_all_it_needs_from_the_file(inside, precision, stated):
    about = EdgeClassifier(EDGE / f"student_{precision}.onnx").metadata
    figures = json.loads(METRICS.read_text())
    assert about.classes == CLASSES
    assert about.precision == stated
    assert about.checkpoint_sha256 == file_sha256(CHECKPOINT)
    assert about.guard.target_purity == BARS.target_purity
    assert about.temperature == pytest.approx(figures["temperature"], abs=1e-6)
    for name, value in about.guard.content().items():
        assert value == pytest.approx(figures["guard"][f"student_{precision}"][name], abs=1e-6)


def test_the_fp32_file_answers_as_torch_does(inside):
    images = load_images(read_manifest(Path("data/splits/val.csv")), 224)
    batch = (images.pixels.float() / 255).numpy()
    classifier = EdgeClassifier(EDGE / "student_fp32.onnx")
    answers, unknown = classifier.answers(batch)
    with torch.no_grad():
        assert np.abs(unknown - load_network(CHECKPOINT).answers(torch.from_numpy(batch))[1].numpy()).max() < 1e-3
    assert np.abs(answers - predict(load_network(CHECKPOINT), images.pixels).numpy()).max() < BARS.torch_tolerance
    one_by_one = np.concatenate([classifier.logits(image[None]) for image in batch])
    assert np.allclose(one_by_one, answers, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [FAST, *FILES])
def test_nothing_of_this_machine_is_in_the_file(inside, name):
    content = (EDGE / name).read_bytes()
    own = {str(ROOT), str(Path.home()), str(inside), sys.prefix, str(Path(torch.__file__).parent), "site-packages"}
    assert not [place for place in own if len(place) > 3 and place.encode() in content]
    assert not re.findall(rb"/[a-z_.-]+/[a-z_./-]+\.py", content)
    assert torch.__version__.encode() not in content


def test_a_file_has_no_other_files_to_lose(inside):
    for name in (FAST, *FILES):
        graph = onnx.load(EDGE / name, load_external_data=False).graph
        assert not any(initializer.external_data for initializer in graph.initializer)


def refusal(bars, folder) -> str:
    with pytest.raises(UserError) as refused:
        export_student(CHECKPOINT, folder / "edge", folder / "export.json", bars, plain(), threads=1)
    assert names(folder) == []
    return str(refused.value)


def test_onnx_that_differs_from_torch_is_refused_with_the_figures(exported_before, tmp_path):
    tight = params(export_onnx={"torch_tolerance": 1e-30, "int8_agreement": 0.0}).export_onnx
    message = refusal(tight, tmp_path)
    assert re.search(r"ONNX and torch logits differ by up to \d[\d.e-]*, more than", message)
    assert "export_onnx.torch_tolerance 1e-30" in message


def test_int8_that_collapses_is_refused_with_the_figures(exported_before, tmp_path, monkeypatch):
    settle = variants.integer_model

    def collapsed(model):
        """What post-training quantization does to MobileNetV3: one class for everything."""
        spoilt = settle(model)
        for initializer in spoilt.graph.initializer:
            if initializer.data_type == onnx.TensorProto.INT8:
                zeros = np.zeros_like(numpy_helper.to_array(initializer))
                initializer.CopyFrom(numpy_helper.from_array(zeros, initializer.name))
        return spoilt

    monkeypatch.setattr(variants, "integer_model", collapsed)
    message = refusal(params(export_onnx={"int8_agreement": 0.995, "torch_tolerance": 0.002}).export_onnx, tmp_path)
    assert re.search(r"student_int8.onnx and FP32 name the same class on \d+\.\d\d% of 16 validation images", message)
    assert "export_onnx.int8_agreement 0.995" in message and "distill.int8_further_epochs" in message


def test_a_missing_student_says_what_to_run(inside, tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.safetensors is missing: run `dvc repro`"):
        export_student(Path("nowhere.safetensors"), tmp_path, tmp_path / "export.json", BARS, plain(), threads=1)


def test_the_device_accepts_the_very_images_that_the_thresholds_were_certified_on(inside):
    """Each of them alone, although they were asked together: the surest of those left out defines no threshold."""
    classifier = EdgeClassifier(EDGE / "student_int8.onnx")
    rows = read_manifest(Path("data/splits/val.csv"))
    answers = classifier.answers((load_images(rows, 224).pixels.float() / 255).numpy())
    probabilities = classifier.probabilities(answers.logits)
    bars = params(export_onnx={"target_purity": 0.9, "guard_confidence": 0.5}).export_onnx
    guard = calibrated_guard(probabilities, answers.unknown, probabilities.argmax(axis=1), bars)  # as if all were right
    alone = [classifier.answers(to_tensor(open_gray(IMAGES / row.path))) for row in rows]
    said = classifier.probabilities(np.concatenate([each.logits for each in alone]))
    assert (guard.codes(said, np.concatenate([each.unknown for each in alone])) == ACCEPTED).all()


@pytest.mark.parametrize("name", FILES)
def test_the_fast_file_knows_from_when_its_answer_stands_beside_each_other_file(inside, name):
    fast, full = EdgeClassifier(EDGE / FAST), EdgeClassifier(EDGE / name)
    pair, figures = AdaptiveClassifier(fast, full), json.loads(METRICS.with_name("fast.json").read_text())
    paths = [IMAGES / row.path for row in read_manifest(Path("data/splits/val.csv"))]
    said, alone = list(pair.classify_many(paths)), list(full.classify_many(paths))
    same = np.mean([one.label == other.label for one, other in zip(said, alone, strict=True)])
    of_it = figures["beside"][Path(name).stem]
    assert same == pytest.approx(of_it["agreement"], abs=1e-6) and same >= BARS.fast_agreement
    assert pair.escalated
    assert pair.escalated / len(paths) == pytest.approx(of_it["escalated"], abs=1e-6)
    assert fast.metadata.checkpoint_sha256 == file_sha256(SHORT) and fast.metadata.precision == "fp32"
    assert fast.metadata.pairs[full.metadata.precision].guard.target_purity == BARS.target_purity


def test_a_whole_student_is_no_fast_one(inside, tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors has not learned all that a fast student learns"):
        export_fast(CHECKPOINT, tmp_path / "edge", tmp_path / "fast.json", BARS, plain(), threads=1)
    assert names(tmp_path) == []


def test_rendered_images_are_calibrated_on_beside_a_rendered_split_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_split("val", per_class=2)
    both = calibration_images(3, seed=5)
    assert (len(both.images), both.split, len(both.validation)) == (16 + 24, 16, 16)
    assert both.validation.sha256() == plain().images.sha256()
    assert both.alone.tolist() == [*plain().alone.tolist(), *range(16, 40)]
    assert torch.bincount(both.images.labels).tolist() == [5] * 8
    assert both.images.sha256() == calibration_images(3, seed=5).images.sha256()
    listing = Path("data/splits/val.csv")
    write_manifest(listing, [replace(one, size=64) for one in read_manifest(listing)])  # as if they were rendered so
    small = calibration_images(3, seed=5)
    assert small.validation.sha256() == both.validation.sha256() and small.images.sha256() != both.images.sha256()
    listing.write_text(listing.read_text().replace("rendered", "real", 1))
    assert any(row.origin == "real" for row in read_manifest(listing))
    assert len(calibration_images(3, seed=5).images) == 16
