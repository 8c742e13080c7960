"""What the report of a run says: one function a section."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semdefect import CLASSES, readiness
from semdefect.card_tables import COUNTED, counts_of
from semdefect.edge.table import percent
from semdefect.intervals import FIGURES, Interval
from semdefect.model_card import Run, learned_from, origin
from semdefect.network import file_sha256
from semdefect.params import WHERE_DRAWN
from semdefect.readiness import Readiness
from semdefect.report import Card, Grid, Picture, Section, write_report

#: The names of the models in the report, by those in the figures.
MODELS = {
    "teacher": "teacher",
    "student_fp32": "student FP32",
    "student_int8": "student INT8",
    "student_w8": "student, INT8 weights",
    "student_fast": "fast student",
    "adaptive": "fast one first",
}
_PER_CLASS = ("purity", "recall")
#: What `benchmarks.edge_speed` measured; no part of a run, since times are never the same.
SPEED = Path("benchmarks/results/edge_speed.json")


@dataclass(frozen=True)
class Findings:
    """All that was found out about a run.

    Attributes:
        run: parameters, splits, test sets, answers and files.
        details: ``[model][test set]`` → `semdefect.evaluation.Outcome.figures`.
        summary: `semdefect.evaluation.summarise`.
        robustness: `semdefect.robustness.robustness`, of ``damaged_images`` images.
        attention: `semdefect.attention.attention`.
        audit: content of a `semdefect.leak_audit.Audit`.
        ready: a verdict for each class.
        quantization: ``metrics/export_onnx/quantization.json``.
        speed: content of `SPEED`; None where it was never measured.
    """

    run: Run
    details: dict[str, dict[str, Any]]
    summary: dict[str, Any]
    robustness: dict[str, Any]
    damaged_images: int
    attention: dict[str, Any]
    audit: dict[str, Any]
    ready: Sequence[Readiness]
    quantization: dict[str, Any]
    speed: dict[str, Any] | None

    @property
    def shipped(self) -> dict[str, Any]:
        """Figures of the shipped file by test set."""
        return self.details[self.run.scored.shipped]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each model file by its name."""
        files = [self.run.teacher, *(student.path for student in self.run.students.values())]
        return {("teacher " if file == self.run.teacher else "") + file.name: file_sha256(file) for file in files}


def write_run_report(found: Findings, pictures: Path, samples: Path, path: Path) -> None:
    """Write the report of a run.

    Args:
        found: what it tells.
        pictures: folder of the pictures that `evaluate` made.
        samples: sheet of samples of the data set.
        path: of the HTML file.

    Raises:
        OSError: a picture is missing; an earlier report stays.
    """

    def shown(name: str, caption: str, wide: bool = True) -> Picture:
        return Picture(pictures / name, caption, wide)

    sections = [
        figures_section(found),
        class_section(found, [shown("confusion.png", "Confusion of the INT8 file: rows true, columns called")]),
        guard_section(
            found,
            [
                shown("purity.png", "Purity against rejection; the dot is where the guard stands", False),
                shown("reliability.png", "Confidence and accuracy, mixed", False),
            ],
        ),
        robustness_section(
            found.robustness,
            found.damaged_images,
            [
                shown("robustness.png", "Accuracy against severity; 0 is the undamaged image"),
                shown("severities.png", "One image under each kind of damage"),
            ],
        ),
        attention_section(found.attention, [shown("attention.png", "Image, and the evidence for its true class")]),
        Section(
            "Worst errors",
            ["The errors of the INT8 file on the clean test images that it was surest of, and beside each the evidence "
             "for what it was called, by the maps of the student in FP32."]
            if _errs(found)
            else ["The INT8 file makes no error on the clean test images."],
            [],
            [shown("errors.png", "True class, called class and confidence")] if _errs(found) else [],
        ),
        leak_section(found.audit, [shown("neighbours.png", "The closest pairs across splits")]),
        origin_section(found, [Picture(samples, "Samples of the data set", True)]),
        quantization_section(found.quantization, found.summary["int8_fp32_agreement"]),
        latency_section(found.speed, found.hashes),
        limits_section(sum(row.origin == "real" for row in found.run.splits["test"])),
    ]  # fmt: skip
    lead = (
        "All figures of the student were measured on the ONNX files through the device's own code, on images of the "
        "test split, which shares no base image with training, and on fresh ones, rendered for this test alone."
    )
    write_report("SEM defect classifier", lead, cards(found), sections, path)


def _errs(found: Findings) -> bool:
    return found.shipped["clean"]["accuracy"] < 1


def cards(found: Findings) -> list[Card]:
    """What is seen first: the shipped file's accuracy on each test set, and what its guard keeps."""
    shipped, names = found.run.scored.shipped, found.run.scored.names
    last = names[-1]
    guard = found.shipped[last]["guard"]
    return [
        *(
            Card(f"accuracy, {name}", percent(found.shipped[name]["accuracy"]), _between(found, shipped, name))
            for name in names
        ),
        Card(f"purity, {last}", percent(guard["purity"]), f"accepted; {percent(guard['rejection_rate'])} to review"),
        Card("INT8 agrees with FP32", percent(found.summary["int8_fp32_agreement"][last]), f"on {last}"),
        Card(f"escape rate, {last}", percent(found.shipped[last]["escape_rate"]), "defects called clean, no guard"),
        Card(f"overkill, {last}", percent(found.shipped[last]["overkill_rate"]), "clean called defect, no guard"),
    ]  # fmt: skip


def _between(found: Findings, model: str, name: str) -> str:
    low, high = found.run.scored.intervals[model][name]["accuracy"]
    return f"95 %: {100 * low:.1f}–{100 * high:.1f}"


def _span(value: float, interval: Interval) -> str:
    """``88.6% (85.3–91.7)``."""
    return f"{percent(value)} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"


def figures_section(found: Findings) -> Section:
    """Headline figures of each model with their intervals."""
    intervals = found.run.scored.intervals
    rows = [
        [
            title,
            name,
            str(found.details[model][name]["images"]),
            *(_span(found.details[model][name][figure], intervals[model][name][figure]) for figure in FIGURES),
            percent(found.details[model][name]["escape_rate"]),
            percent(found.details[model][name]["overkill_rate"]),
        ]
        for model, title in MODELS.items()
        for name in found.run.scored.names
    ]
    header = ["model", "test set", "images", "accuracy", "mean class accuracy", "macro-F1", "escape rate", "overkill"]
    text = [
        "In brackets 95 % bootstrap intervals over lineage groups. They say how a figure would vary with other images "
        "drawn alike, and nothing of images of another kind.",
        "Escape rate: defects called clean, of all defects. Overkill: clean images called a defect, of all clean ones. "
        "Both without the guard.",
    ]
    return Section("Accuracy", text, [Grid(header, rows)])


def class_section(found: Findings, pictures: Sequence[Picture]) -> Section:
    """Purity and recall of each class, what it is taken for, and whether it is ready."""
    sets = found.run.scored.names
    rows = [
        [
            label,
            *(percent(found.shipped[name]["per_class"][label][key]) for name in sets for key in _PER_CLASS),
        ]
        for label in CLASSES
    ]
    header = ["class", *(f"{key}, {name}" for name in sets for key in _PER_CLASS)]
    verdicts = Grid(readiness.HEADER, readiness.cells(found.ready), "Ready for automation?", words=True)
    text = [
        "A class is ready where the lower bound of the purity of what the guard accepts reaches the target. It "
        "overlaps with another where even the upper bound does not, or where the guard keeps the purity by sending "
        "more than half of its calls to a person; else it needs more data."
    ]
    return Section("Classes", text, [Grid(header, rows, "INT8, without the guard"), verdicts], pictures)


def guard_section(found: Findings, pictures: Sequence[Picture]) -> Section:
    """What is accepted and what a person sees."""
    names = {
        "purity": "purity",
        "rejection_rate": "rejection rate",
        "ambiguous": "ambiguous, of all images",
        "unknown": "unknown, of all images",
        "escape_rate": "escape rate",
        "overkill_rate": "overkill",
    }
    guards = {name: found.shipped[name]["guard"] for name in found.run.scored.names}
    rows = [[title, *(percent(guard[key]) for guard in guards.values())] for key, title in names.items()]
    killers = [
        [f"{label}, {key} behind the guard", *(percent(guard["killers"][label][key]) for guard in guards.values())]
        for label in next(iter(guards.values()))["killers"]
        for key in ("recall", "kept")
    ]
    foreign = found.summary["foreign_called_unknown"]
    promise = found.run.shipped.guard
    text = [
        f"Promised: a purity of {percent(promise.target_purity)} in what is accepted, with a probability of "
        f"{percent(promise.confidence)} over calibration images drawn anew. Escape rate and overkill count what is "
        f"accepted. Recall of a killer defect: accepted as what it is; kept: that, or shown to a person.",
        "Of images that are no SEM images, called unknown: "
        + ", ".join(f"{kind} {percent(share)}" for kind, share in sorted(foreign.items()))
        + ".",
    ]
    return Section("Guard", text, [Grid(["INT8", *guards], [*rows, *killers])], pictures)


def robustness_section(robustness: dict[str, Any], images: int, pictures: Sequence[Picture]) -> Section:
    """How accuracy falls as images get worse."""
    rows = [[MODELS[name], percent(found["clean"]), percent(found["mean"])] for name, found in robustness.items()]
    last, found = list(robustness.items())[-1]
    steps = [[kind.replace("_", " "), *map(percent, shares)] for kind, shares in found["curves"].items()]
    text = [
        f"{images} images under each kind of damage, in five steps. Of 100 images the standard error of an accuracy is "
        f"2 to 4 points, so that small differences say nothing. The mean is over all kinds and steps: a figure to "
        f"compare models by, not what a tool delivers."
    ]
    severities = Grid(["damage", *map(str, range(1, 6))], steps, f"Accuracy by severity, {MODELS[last]}", folded=True)
    return Section("Robustness", text, [Grid(["model", "undamaged", "mean, damaged"], rows), severities], pictures)


def attention_section(attention: dict[str, Any], pictures: Sequence[Picture]) -> Section:
    """Whether the student looks at the defect."""
    rows = [
        [name, str(row["images"]), *(percent(row[key]) for key in ("pointing", "energy", "chance"))]
        for name, row in [*attention["per_class"].items(), ("mean", attention)]
    ]
    text = [
        "Heat maps of the student (HiResCAM) on rendered images, held against the masks that the renderer knows. "
        "Pointing: share of images in which the maximum lies on the defect; energy: share of the map that does; "
        "chance: what evidence strewn at random would reach. Clean images have no mask, and those whose defect covers "
        "more than half of the cells do not count. The maps are of the student before export, in FP32."
    ]
    grid = Grid(["class", "images", "pointing", "energy", "chance"], rows)
    return Section("Does it look at the defect?", text, [grid], pictures)


def leak_section(audit: dict[str, Any], pictures: Sequence[Picture]) -> Section:
    """Whether two splits share a picture."""
    text = [
        f"{audit['images']} images of all splits, turned and mirrored, were held against those of the other splits by "
        f"perceptual hash, teacher features and correlation. Of {audit['candidates']} pairs of neighbours "
        f"{audit['correlated']} correlate by more than the threshold, {audit['duplicates']} are duplicates, and "
        f"{audit['crossing_groups']} lineage groups lie in two splits; anything but 0 of these two stops the run. "
        f"Fresh images are not among them: they are drawn from seeds of their own."
    ]
    return Section("Leak audit", text, [], pictures)


def origin_section(found: Findings, pictures: Sequence[Picture]) -> Section:
    """What was trained on what: data, lineage, parameters, hashes."""
    settings = [
        [f"{block}.{key}", str(value)]
        for block, values in found.run.params.model_dump(exclude={"synthesize": WHERE_DRAWN}).items()
        for key, value in values.items()
    ]
    recipes = found.run.params
    text = [
        "Images of one lineage, and near-duplicates, share a group; no group is in two splits.",
        f"The teacher learned from {learned_from(recipes.train_teacher)}, and started from "
        f"{origin(recipes.train_teacher)}; the student from {learned_from(recipes.distill)}, and started from "
        f"{origin(recipes.distill)}.".replace("`", ""),
    ]
    grids = [
        Grid(["split", *COUNTED], counts_of(found.run.splits)),
        Grid(["file", "SHA-256"], [list(item) for item in found.hashes.items()], "Hashes of the files", folded=True),
        Grid(["parameter", "value"], settings, "All parameters", folded=True),
    ]
    return Section("What was trained on what", text, grids, pictures)


def quantization_section(quantization: dict[str, Any], agreement: Mapping[str, float]) -> Section:
    """How far INT8 is from FP32."""
    noise = quantization["tensors_signal_to_noise_db"]
    worst = [[name, f"{noise[name]:.1f} dB"] for name in quantization["worst_tensors"]]
    text = [
        "Share of images on which the INT8 file names the same class as the FP32 file, and the tensors that rounding "
        "hurts most, by the ratio of signal to rounding noise on validation images."
    ]
    shares = Grid(["test set", "agreement"], [[name, percent(share)] for name, share in agreement.items()])
    return Section(
        "Quantization", text, [shares, Grid(["tensor", "ratio"], worst, "The ten worst tensors", folded=True)]
    )


def latency_section(speed: dict[str, Any] | None, hashes: Mapping[str, str]) -> Section:
    """What a call takes, by a measurement that is no part of the run."""
    if speed is None:
        text = ["Not measured: run python -m benchmarks.edge_speed on an idle machine, then dvc repro."]
        return Section("Latency", text)
    header = ["file", "image", "decode", "resize", "network", "whole", "whole, p95", "images/s", "times plain"]
    rows = []
    for one in speed["calls"]:
        if (one["threads"], one["batch"]) == (1, 1):
            ours, name = one["recipes"]["ours"], Path(one["model"]).name
            times = [ours[stage]["p50_ms"] for stage in ("decode", "resize", "network", "whole")]
            cells = [*(f"{time:.2f}" for time in (*times, ours["whole"]["p95_ms"])), f"{ours['images_per_second']:.0f}"]
            rows.append([name, one["image"], *cells, f"{one['times_as_fast']['plain']['whole']:.2f}"])
    text = [
        f"Milliseconds, medians, one thread, {speed['environment']['processor']}; by {speed['command']}, apart from "
        f"this run, since times are never the same twice. Times plain: how many times as fast as Pillow's and ONNX "
        f"Runtime's defaults."
    ]
    if stale := [name for name, digest in speed["files"].items() if hashes.get(name) != digest]:
        text.append(f"Measured on other files than this run's ({', '.join(stale)}): measure again.")
    return Section("Latency", text, [Grid(header, rows)])


def read_speed() -> dict[str, Any] | None:
    """Content of `SPEED`; None where there is none."""
    return json.loads(SPEED.read_text(encoding="utf-8")) if SPEED.is_file() else None


def limits_section(real: int) -> Section:
    """What the figures do not say."""
    where = (
        f"{real} of the test images are real or made from real ones; the test set real alone speaks for such images."
        if real
        else "All images of this run are rendered. On real ones accuracy is lower and the guard keeps less than it "
        "promises: docs/results.md has what was measured."
    )
    text = [
        where,
        "How the model does on another microscope, process or magnification than those of its images.",
        "Whether a label is right: where people disagree about a class, the figures are of one opinion.",
        "What happens at the rates of a fab: the test sets hold as many images of each class, and purity in production "
        "depends on how many images are clean.",
        "How much another training with another seed would differ: all is of one.",
        "Latency on other processors.",
    ]
    return Section("What the figures do not say", text)
