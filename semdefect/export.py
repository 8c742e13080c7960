"""A student checkpoint as one self-contained ONNX file whose bytes depend on nothing but its weights."""

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from semdefect import CLASSES
from semdefect.atomic import replacing, write_json
from semdefect.calibration import fit_temperature, guard_thresholds, review_all, unknown_threshold
from semdefect.calibration_data import CalibrationImages
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.guard import ACCEPTED, Guard
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata
from semdefect.edge.runtime import Answers
from semdefect.errors import UserError
from semdefect.images import ImageSet
from semdefect.network import SemNetwork, file_sha256, load_network, predict
from semdefect.params import ExportOnnx
from semdefect.rounding import Precision, signal_to_noise
from semdefect.variants import agreements, answers_of, graphs_of

#: The exported files.
FILES: dict[Precision, str] = {
    "fp32": "student_fp32.onnx",
    "int8": "student_int8.onnx",
    "int8-weights": "student_w8.onnx",
}
#: How many of the tensors that lose most are listed.
WORST = 10


def save_onnx(model: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Write ``model`` with its ``metadata``, whole or not at all, in an order of bytes that never varies."""
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata.to_json()})
    with replacing(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class Variant:
    """One exported file: the graph, and what ran through it."""

    model: onnx.ModelProto
    logits: NDArray[np.float32]
    unknown: NDArray[np.float32]


def export_student(
    checkpoint: Path, folder: Path, metrics: Path, bars: ExportOnnx, calibration: CalibrationImages, threads: int
) -> None:
    """Export ``checkpoint`` to ``folder`` as FP32, INT8 and INT8 weights and write the figures of the comparison.

    The temperature comes from the FP32 file's answers to the calibration images, each file's guard from its own.

    Args:
        checkpoint: a student that learned to answer alike in FP32 and INT8.
        folder: where the files go, ``student_{fp32,int8,w8}.onnx``.
        metrics: the JSON file of figures; ``quantization.json`` goes beside it.
        bars: what the files have to clear.
        calibration: the validation split, with which they are compared, and the images that they are calibrated on.
        threads: of torch and ONNX Runtime.

    Raises:
        UserError: FP32 ONNX and torch differ by more than ``bars.torch_tolerance``, or an INT8 file and FP32 agree on
            fewer than ``bars.int8_agreement`` of the validation images; gives the figures. No file is left.
    """
    torch.set_num_threads(threads)
    network = load_network(checkpoint)
    if not network.rounded or network.unknown is None:
        raise UserError(f"{checkpoint} has not learned all that a student learns: run `dvc repro distill`")
    labels, guards = calibration.images.labels.numpy(), {}
    about = ModelMetadata(CLASSES, 1.0, review_all(len(CLASSES)), "fp32", file_sha256(checkpoint))
    variants = _variants(network, about, calibration.images, threads)
    said = {precision: variant.logits[: calibration.split] for precision, variant in variants.items()}
    difference = check_difference(checkpoint, network, said["fp32"], calibration.validation, bars)
    agreement = agreements(said)
    for precision, share in agreement.items():
        if share < bars.int8_agreement:
            raise UserError(
                f"{checkpoint}: {FILES[precision]} and FP32 name the same class on {share:.2%} of {calibration.split} "
                f"validation images, fewer than export_onnx.int8_agreement {bars.int8_agreement:g}; "
                f"raise distill.int8_further_epochs, or lower export_onnx.int8_agreement (both train the student again)"
            )
    temperature, alone = fit_temperature(variants["fp32"].logits, labels), calibration.alone
    for file, variant in variants.items():
        probabilities = calibrated(variant.logits, temperature)
        guard = calibrated_guard(probabilities[alone], variant.unknown[alone], labels[alone], bars)
        about = replace(about, temperature=temperature, guard=guard, precision=file)
        save_onnx(variant.model, about, folder / FILES[file])
        accepted = float((guard.codes(probabilities, variant.unknown) == ACCEPTED).mean())
        guards[Path(FILES[file]).stem] = guard.content() | {"accepted": accepted}
        print(guard_sentence(FILES[file], guard, accepted))
    figures = {
        "int8_fp32_agreement_val": agreement["int8"],
        "w8_fp32_agreement_val": agreement["int8-weights"],
        "onnx_torch_difference_below": _power_of_ten_above(difference),
        "calibration_images": len(labels),
        "temperature": temperature,
        "guard": guards,
        "megabytes": {Path(file).stem: round((folder / file).stat().st_size / 1e6, 2) for file in FILES.values()},
    }
    write_json(metrics, figures, digits=6)
    write_json(metrics.with_name("quantization.json"), _quantization(network, said, calibration.validation), digits=3)


def check_difference(
    checkpoint: Path, network: SemNetwork, logits: NDArray[np.float32], images: ImageSet, bars: ExportOnnx
) -> float:
    """The largest difference between the FP32 file's ``logits`` of ``images`` and those of the network.

    Raises:
        UserError: it is more than ``bars.torch_tolerance``.
    """
    difference = float(np.abs(predict(network, images.pixels).numpy() - logits).max())
    if difference > bars.torch_tolerance:
        raise UserError(
            f"{checkpoint}: ONNX and torch logits differ by up to {difference:.2g}, more than "
            f"export_onnx.torch_tolerance {bars.torch_tolerance:g}"
        )
    return difference


def calibrated(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Probabilities ``[N, C]`` of ``logits [N, C]``, as `EdgeClassifier.probabilities` gives them."""
    return np.asarray(softmax(logits.astype(np.float64) / temperature, axis=1))


def guard_sentence(file: str, guard: Guard, accepted: float) -> str:
    """What the ``guard`` of ``file`` does with the calibration images, of which it accepts a share of ``accepted``."""
    if not accepted:
        return (
            f"{file}: the calibration images do not show a purity of {guard.target_purity:g}, so the guard sends every "
            f"image to review; lower export_onnx.target_purity, or add images"
        )
    return (
        f"{file}: the guard accepts {accepted:.0%} of the calibration images, for a purity of {guard.target_purity:g}"
    )


def calibrated_guard(
    probabilities: NDArray[np.float64], unknown: NDArray[np.float32], labels: NDArray[np.int64], bars: ExportOnnx
) -> Guard:
    """The guard that keeps the promises of ``bars`` on images like those for validation.

    Args:
        probabilities: calibrated, ``[N, 8]``.
        unknown: score of each image, ``[N]``.
        labels: class numbers ``[N]``.
        bars: what to keep, and how surely.
    """
    strange = unknown_threshold(unknown, bars.unknown_false_alarms, bars.guard_confidence)
    known = unknown <= strange  # the others are never accepted
    thresholds = guard_thresholds(probabilities[known], labels[known], bars.target_purity, bars.guard_confidence)
    return Guard(thresholds, strange, bars.target_purity, bars.guard_confidence)


def _variants(network: SemNetwork, about: ModelMetadata, images: ImageSet, threads: int) -> dict[Precision, Variant]:
    """Each file with its logits of ``images`` as the device computes them."""
    return {
        precision: Variant(model, *validated(model, replace(about, precision=precision), images, threads))
        for precision, model in graphs_of(network).items()
    }


def _quantization(network: SemNetwork, said: dict[Precision, NDArray[np.float32]], images: ImageSet) -> dict[str, Any]:
    """What rounding costs on ``images``, to which the files ``said`` these logits: by file, and by tensor of INT8."""
    plain = said["fp32"]
    ratios = signal_to_noise(network, images.pixels)
    return {
        "agreement_val": agreements(said),
        "logits_signal_to_noise_db": {
            precision: float(10 * np.log10(plain.var() / max((logits - plain).var(), 1e-12)))
            for precision, logits in said.items()
            if precision != "fp32"
        },
        "tensors_signal_to_noise_db": ratios,
        "worst_tensors": sorted(ratios, key=lambda name: ratios[name])[:WORST],
    }


def validated(model: onnx.ModelProto, about: ModelMetadata, images: ImageSet, threads: int) -> Answers:
    """What the device says of ``images`` from a file of ``model``, which is not kept."""
    with tempfile.TemporaryDirectory() as scratch:
        save_onnx(model, about, Path(scratch) / "model.onnx")
        return answers_of(EdgeClassifier(Path(scratch) / "model.onnx", threads).answers, images)


def _power_of_ten_above(value: float) -> float:
    """A bound that does not change with the last bits of a difference."""
    return float(10.0 ** math.ceil(math.log10(max(value, 1e-9))))
