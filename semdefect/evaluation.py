"""The exported files scored on images that training never saw, through the device's own code."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.archive import open_image
from semdefect.edge.adaptive import AdaptiveClassifier
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.guard import ACCEPTED, REASONS
from semdefect.edge.guard_scoring import guard_figures
from semdefect.edge.image import SIZE, is_blank, to_pixels, to_tensor
from semdefect.edge.pair import CHEAP
from semdefect.edge.runtime import Answers, joined
from semdefect.edge.scoring import expected_calibration_error, score
from semdefect.manifest import IMAGES, Row
from semdefect.network import load_network, predict
from semdefect.params import Evaluate
from semdefect.seeds import TEST
from semdefect.synthesis import corrupt
from semdefect.training_data import fresh_images

FAST = Path(CHEAP).stem
FILES = ("student_fp32", "student_int8", "student_w8", FAST)
#: What is scored: teacher, files, and the fast file with the one that it is meant to spare.
MODELS = ("teacher", *FILES, "adaptive")
SPARED, PLAIN = "student_w8", "student_fp32"
#: The file that goes to the device: its figures are the ones in the plots.
SHIPPED = "student_int8"


@dataclass(frozen=True)
class TestSet:
    """Images of one test set: ``images`` gray 224², ``truth [N]`` class numbers, ``names [N]`` paths."""

    __test__ = False  # no test for pytest to collect

    images: list[Image.Image]
    truth: NDArray[np.int64]
    names: list[str]

    def __add__(self, other: "TestSet") -> "TestSet":
        """Both sets, one after the other."""
        truth = np.concatenate([self.truth, other.truth])
        return TestSet(self.images + other.images, truth, self.names + other.names)


def load_test_sets(rows: Sequence[Row], params: Evaluate, seed: int) -> dict[str, TestSet]:
    """The test sets by name.

    ``clean`` is the test split, ``noisy`` the same corrupted, ``mixed`` both, ``fresh`` further rendered images, of
    the size of the split's and many more, and ``real`` the split's real images; the last two only where there are any.

    Args:
        rows: the test split.
        params: strength of each corruption, number of fresh images.
        seed: of corruptions and fresh images.
    """
    clean = _load(rows)
    strengths = params.noisy.model_dump()
    corrupted = [
        Image.fromarray(corrupt(np.asarray(image), seed=seed + index, **strengths))
        for index, image in enumerate(tqdm(clean.images, desc="corrupt", disable=None, leave=False))
    ]
    spoilt = TestSet(corrupted, clean.truth, [f"{name} (noisy)" for name in clean.names])
    sets = {"clean": clean, "noisy": spoilt, "mixed": clean + spoilt}
    if params.fresh_per_class:
        sets["fresh"] = _render(params.fresh_per_class, seed, rows[0].size)
    real = [row for row in rows if row.original]
    return sets | ({"real": _load(real)} if real else {})


def _load(rows: Sequence[Row]) -> TestSet:
    images = [Image.fromarray(to_pixels(open_image(IMAGES / row.path))) for row in rows]
    return TestSet(images, np.array([CLASSES.index(row.label) for row in rows]), [row.path for row in rows])


def _render(per_class: int, seed: int, image_size: int) -> TestSet:
    drawn = fresh_images(per_class, SIZE, TEST, seed, size=image_size)
    images = [Image.fromarray(pixels[0].numpy()) for pixels in drawn.pixels]
    truth = drawn.labels.numpy()
    return TestSet(images, truth, [f"{CLASSES[label]} {number} (fresh)" for number, label in enumerate(truth)])


def run_edge(classifier: EdgeClassifier, images: Sequence[Image.Image], name: str) -> Answers:
    """Answers to N images, one at a time, as on the device."""
    bar = tqdm(images, desc=name, unit="image", disable=None, leave=False)
    return joined([classifier.answers(to_tensor(image)) for image in bar])


def run_teacher(checkpoint: Path, images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Logits ``[N, 8]`` of the teacher in torch."""
    pixels = torch.from_numpy(np.stack([to_pixels(image) for image in images]))[:, None]
    return predict(load_network(checkpoint), pixels).numpy()


@dataclass(frozen=True)
class Outcome:
    """What one model said of one test set.

    Attributes:
        raw: probabilities before scaling, ``[N, 8]``.
        probabilities: calibrated, ``[N, 8]``.
        truth: class numbers ``[N]``.
        codes: the guard's decisions ``[N]``, see `semdefect.edge.guard.Guard.codes`.
        escalated: where two models answered in turn, for which images the full one did, ``[N]``.
    """

    raw: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    truth: NDArray[np.int64]
    codes: NDArray[np.int64]
    escalated: NDArray[np.bool_] | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class numbers ``[N]``."""
        return np.asarray(self.probabilities.argmax(axis=1))

    def figures(self) -> dict[str, Any]:
        """All figures of `semdefect.edge.scoring.score`, calibration before scaling, and the guard's."""
        return score(self.truth, self.probabilities, CLASSES) | {
            "calibration_error_before": expected_calibration_error(self.raw, self.truth),
            "guard": guard_figures(self.probabilities, self.truth, self.codes, CLASSES),
            "escalated": None if self.escalated is None else float(self.escalated.mean()),
        }


def load_students(edge: Path, threads: int) -> dict[str, EdgeClassifier]:
    """The exported files in the folder ``edge`` by name, on ``threads`` threads of ONNX Runtime."""
    return {name: EdgeClassifier(edge / f"{name}.onnx", threads) for name in FILES}


def run_models(
    students: dict[str, EdgeClassifier], teacher: Path, sets: dict[str, TestSet], threads: int
) -> dict[str, dict[str, Outcome]]:
    """Outcome of each of `MODELS` on each test set, ``[model][test set]``.

    Args:
        students: the exported files by name.
        teacher: checkpoint of the teacher; its temperature is 1 and it has no guard.
        sets: the test sets.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    outcomes: dict[str, dict[str, Outcome]] = {name: {} for name in MODELS}
    for set_name, images in sets.items():
        if set_name == "mixed":
            continue  # put together from its parts below
        blank = [is_blank(to_tensor(image)) for image in images.images]
        taught = softmax(run_teacher(teacher, images.images).astype(np.float64), axis=1)
        outcomes["teacher"][set_name] = Outcome(taught, taught, images.truth, np.full(len(taught), ACCEPTED))
        for name, student in students.items():
            logits, unknown = run_edge(student, images.images, f"{name}, {set_name}")
            probabilities = student.probabilities(logits)
            codes = student.metadata.guard.codes(probabilities, unknown, blank)
            raw = softmax(logits.astype(np.float64), axis=1)
            outcomes[name][set_name] = Outcome(raw, probabilities, images.truth, codes)
        outcomes["adaptive"][set_name] = run_adaptive(students, images, f"adaptive, {set_name}")
    for by_set in outcomes.values():
        by_set["mixed"] = _both(by_set["clean"], by_set["noisy"])
    return {name: {key: by_set[key] for key in sets} for name, by_set in outcomes.items()}


def pair_of(students: dict[str, EdgeClassifier]) -> AdaptiveClassifier:
    """The fast file and the one that it spares."""
    return AdaptiveClassifier(students[FAST], students[SPARED])


def run_adaptive(students: dict[str, EdgeClassifier], images: TestSet, name: str) -> Outcome:
    """Outcome of the fast file and, where it is unsure, the one that it spares."""
    pair = pair_of(students)
    said = [pair.classify(image) for image in tqdm(images.images, desc=name, unit="image", disable=None, leave=False)]
    probabilities = np.array([list(one.probabilities.values()) for one in said])
    codes = np.array([REASONS.index(one.reason or "") for one in said])
    return Outcome(probabilities, probabilities, images.truth, codes, np.array([one.escalated for one in said]))


def _both(first: Outcome, second: Outcome) -> Outcome:
    def both(name: str) -> Any:
        parts = getattr(first, name), getattr(second, name)
        return None if parts[0] is None else np.concatenate(parts)

    return Outcome(*(both(field.name) for field in fields(Outcome)))


def foreign_figures(
    students: dict[str, EdgeClassifier], kinds: dict[str, list[Image.Image]]
) -> dict[str, dict[str, float]]:
    """Share of images that are no SEM images, of each of ``kinds`` and of ``all``, that each model calls unknown."""

    def shares(called: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
        together = np.concatenate(list(called.values()))
        return {kind: float(found.mean()) for kind, found in {**called, "all": together}.items()}

    figures = {}
    for name, student in students.items():
        limit = student.metadata.guard.unknown
        figures[name] = shares(
            {kind: run_edge(student, images, f"{name}, {kind}").unknown > limit for kind, images in kinds.items()}
        )
    pair = pair_of(students)
    reasons = {kind: [pair.classify(image).reason for image in images] for kind, images in kinds.items()}
    return figures | {"adaptive": shares({kind: np.array(found) == "unknown" for kind, found in reasons.items()})}


def summarise(
    outcomes: dict[str, dict[str, Outcome]],
    details: dict[str, dict[str, Any]],
    foreign: dict[str, dict[str, float]],
    damaged: dict[str, Any],
    looks: dict[str, Any],
    audit: dict[str, Any],
) -> dict[str, Any]:
    """The few figures for `dvc metrics diff`: accuracies by test set and model, and what the shipped file keeps.

    Args:
        outcomes: ``[model][test set]``.
        details: `Outcome.figures` of the same.
        foreign: `foreign_figures`.
        damaged: `semdefect.robustness.robustness`.
        looks: `semdefect.attention.attention`.
        audit: figures of `semdefect.leak_audit.Audit`.
    """
    mixed = {name: details[name]["mixed"] for name in MODELS}
    shipped = mixed[SHIPPED]
    plain = outcomes[PLAIN]
    teacher = mixed["teacher"]["accuracy"]
    return {
        "accuracy": {key: {name: details[name][key]["accuracy"] for name in MODELS} for key in outcomes[SHIPPED]},
        "macro_f1": {key: details[SHIPPED][key]["macro_f1"] for key in outcomes[SHIPPED]},
        "retention_of_teacher": shipped["accuracy"] / teacher if teacher else None,
        "int8_fp32_agreement": {
            key: float((plain[key].predicted == outcome.predicted).mean()) for key, outcome in outcomes[SHIPPED].items()
        },
        "calibration_error": {
            "before_scaling": shipped["calibration_error_before"],
            "after_scaling": shipped["calibration_error"],
        },
        "guard": {
            figure: {key: details[SHIPPED][key]["guard"][figure] for key in outcomes[SHIPPED]}
            for figure in ("purity", "rejection_rate", "unknown")
        },
        "adaptive_escalated": {key: details["adaptive"][key]["escalated"] for key in outcomes[SHIPPED]},
        "foreign_called_unknown": foreign[SHIPPED],
        "escape_rate": shipped["escape_rate"],
        "overkill_rate": shipped["overkill_rate"],
        "damaged_accuracy": {name: found["mean"] for name, found in damaged.items()},
        "looks_at_the_defect": {key: looks[key] for key in ("pointing", "energy")},
        "duplicates_across_splits": audit["duplicates"],
    }
