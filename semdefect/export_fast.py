"""The fast student as an ONNX file that knows with which files of the full student it answers, and from when alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from semdefect import CLASSES
from semdefect.atomic import write_json
from semdefect.calibration import enough_confidence, fit_temperature, review_all
from semdefect.calibration_data import CalibrationImages
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.guard import ACCEPTED
from semdefect.edge.metadata import ModelMetadata
from semdefect.edge.pair import CHEAP, Pair, unsure
from semdefect.errors import UserError
from semdefect.export import (
    FILES,
    calibrated,
    calibrated_guard,
    check_difference,
    guard_sentence,
    save_onnx,
    validated,
)
from semdefect.network import file_sha256, load_network
from semdefect.onnx_graph import to_onnx
from semdefect.params import ExportOnnx
from semdefect.variants import answers_of


def export_fast(
    checkpoint: Path, folder: Path, metrics: Path, bars: ExportOnnx, calibration: CalibrationImages, threads: int
) -> None:
    """Export ``checkpoint`` as FP32 to ``folder``, beside the files of the full student, and write its figures.

    For each of these files it finds on the calibration images from which confidence on the fast student's answer
    stands, and a guard of what both answer together.

    Args:
        checkpoint: the fast student.
        folder: where the full student's files lie.
        metrics: the JSON file of figures.
        bars: what the file and the pairs have to clear.
        calibration: the validation split, with which it is compared, and the images that it is calibrated on.
        threads: of torch and ONNX Runtime.

    Raises:
        UserError: ONNX and torch differ by more than ``bars.torch_tolerance``. No file is left.
    """
    torch.set_num_threads(threads)
    network = load_network(checkpoint)
    if network.short_head is None or network.unknown is None:
        raise UserError(f"{checkpoint} has not learned all that a fast student learns: run `dvc repro distill`")
    images, alone = calibration.images, calibration.alone
    labels = images.labels.numpy()
    model = to_onnx(network)
    about = ModelMetadata(CLASSES, 1.0, review_all(len(CLASSES)), "fp32", file_sha256(checkpoint))
    logits, unknown = validated(model, about, images, threads)
    check_difference(checkpoint, network, logits[: calibration.split], calibration.validation, bars)
    temperature = fit_temperature(logits, labels)
    fast = calibrated(logits, temperature)
    pairs: dict[str, Pair] = {}
    figures = {}
    for precision, name in FILES.items():
        full = EdgeClassifier(folder / name, threads)
        pairs[precision], figures[Path(name).stem] = _pair(full, fast, unknown, calibration, bars)
    guard = calibrated_guard(fast[alone], unknown[alone], labels[alone], bars)
    about = replace(about, temperature=temperature, guard=guard, pairs=pairs)
    save_onnx(model, about, folder / CHEAP)
    megabytes = {Path(CHEAP).stem: round((folder / CHEAP).stat().st_size / 1e6, 2)}
    by_itself = {"accuracy": _right(fast, labels), "temperature": temperature}
    write_json(metrics, {"alone": by_itself, "beside": figures, "megabytes": megabytes}, digits=6)


def _pair(
    full: EdgeClassifier,
    fast: NDArray[np.float64],
    unknown: NDArray[np.float32],
    calibration: CalibrationImages,
    bars: ExportOnnx,
) -> tuple[Pair, dict[str, Any]]:
    """What the fast student's file says of its use with ``full``, and its figures on the calibration images.

    ``fast [N, 8]`` and ``unknown [N]`` are the fast student's calibrated probabilities and scores of them.
    """
    alone, labels = calibration.alone, calibration.images.labels.numpy()
    answers = answers_of(full.answers, calibration.images)
    both = full.probabilities(answers.logits)
    enough = enough_confidence(fast, both, bars.fast_agreement)
    asked = unsure(fast, enough)
    together = np.where(asked[:, None], both, fast)
    strange = np.where(asked, answers.unknown, unknown)
    guard = calibrated_guard(together[alone], strange[alone], labels[alone], bars)
    accepted = float((guard.codes(together, strange) == ACCEPTED).mean())
    print(f"{CHEAP} before {full.path.name} asks it for {asked.mean():.0%} of the calibration images")
    print(guard_sentence(f"{CHEAP} before {full.path.name}", guard, accepted))
    return Pair(full.metadata.checkpoint_sha256, enough, guard), {
        "enough": enough,
        "escalated": float(asked.mean()),
        "agreement": float((together.argmax(1) == both.argmax(1)).mean()),
        "accuracy": {"pair": _right(together, labels), "full": _right(both, labels)},
        "accepted": accepted,
        "guard": guard.content(),
    }


def _right(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float((probabilities.argmax(axis=1) == labels).mean())
