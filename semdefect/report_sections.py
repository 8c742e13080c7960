"""What the report of a run says: one function a section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semdefect import CLASSES
from semdefect.edge.table import percent
from semdefect.intervals import Interval
from semdefect.params import Params
from semdefect.report import Card, Grid, Picture, Section

#: ``[model][test set][figure]``.
Intervals = dict[str, dict[str, dict[str, Interval]]]

#: Models whose intervals are shown, by their names in the figures.
SHOWN = {
    "teacher": "teacher",
    "student_fp32": "student FP32",
    "student_int8": "student INT8",
    "student_w8": "INT8 weights",
    "student_fast": "fast student",
    "adaptive": "fast one first",
}
FIGURES = {"accuracy": "accuracy", "mean_class_accuracy": "mean class accuracy", "macro_f1": "macro-F1"}


def span(value: float | None, interval: Interval | None) -> str:
    """``88.6% (85.3-91.7)``."""
    if value is None or interval is None:
        return percent(value)
    low, high = interval
    return f"{percent(value)} ({100 * low:.1f}–{100 * high:.1f})"


def cards(summary: dict[str, Any], details: dict[str, Any], intervals: Intervals, shipped: str) -> list[Card]:
    """What is seen first: the shipped file's accuracy on each test set, and what its guard keeps."""
    sets = [name for name in details[shipped] if name != "mixed"]
    accuracy = [
        Card(f"accuracy, {name}", percent(details[shipped][name]["accuracy"]), _between(intervals[shipped][name]))
        for name in sets
    ]
    last = sets[-1]
    guard = details[shipped][last]["guard"]
    kept = f"at {percent(guard['rejection_rate'])} to review"
    return [
        *accuracy,
        Card(f"purity of the accepted, {last}", percent(guard["purity"]), kept),
        Card("INT8 names FP32's class", percent(summary["int8_fp32_agreement"][last]), f"on {last}"),
        Card("escape rate, mixed", percent(summary["escape_rate"]), "defects called clean"),
        Card("overkill, mixed", percent(summary["overkill_rate"]), "clean called defect"),
    ]


def _between(intervals: dict[str, Interval]) -> str:
    low, high = intervals["accuracy"]
    return f"95 %: {100 * low:.1f}–{100 * high:.1f}"


def figures_section(details: dict[str, Any], intervals: Intervals) -> Section:
    """Headline figures of each model with their intervals."""
    rows = [
        [
            SHOWN[model],
            name,
            str(details[model][name]["images"]),
            *(span(details[model][name][key], intervals[model][name][key]) for key in FIGURES),
            percent(details[model][name]["escape_rate"]),
            percent(details[model][name]["overkill_rate"]),
        ]
        for model in SHOWN
        for name in details[model]
    ]
    header = ["model", "test set", "images", *FIGURES.values(), "escape rate", "overkill"]
    text = [
        "In brackets 95 % bootstrap intervals over the test images. They say how the figures would vary with other "
        "images drawn alike, and nothing of images of another kind.",
        "Escape rate: defects called clean, among all defects. Overkill: clean images called a defect, among all clean "
        "ones. Both without the guard.",
    ]
    return Section("Accuracy", text, [Grid(header, rows)])


def origin_section(params: Params, synthesized: dict[str, Any], splits: dict[str, Any], hashes: dict[str, str]) -> Section:
    """What was trained on what: data, lineage, parameters, hashes."""
    counts = [
        [name, str(found["images"]), str(found["real_images"]), str(found["lineage_groups"])]
        for name, found in splits.items()
    ]
    settings = [
        [f"{block}.{key}", str(value)]
        for block, values in params.model_dump().items()
        for key, value in values.items()
    ]
    text = [
        f"The data set has {synthesized['images']} images: {synthesized['real_images']} real, "
        f"{synthesized['augmented_images']} drawn from these, {synthesized['rendered_images']} rendered in "
        f"{synthesized['scene_families']} scene families. Images of one lineage, and near-duplicates, share a group; no "
        f"group is in two splits.",
    ]
    return Section(
        "What was trained on what",
        text,
        [
            Grid(["split", "images", "real", "lineage groups"], counts),
            Grid(["file", "SHA-256"], [[name, digest] for name, digest in hashes.items()], "Hashes of the files", True),
            Grid(["parameter", "value"], settings, "All parameters", True),
        ],
    )


def class_section(details: dict[str, Any], readiness: Grid, confusion: Picture) -> Section:
    """Purity and recall of each class, what they are taken for, and which are ready."""
    rows = [
        [
            name,
            *(percent(details[key]["per_class"][name][figure]) for key in details for figure in ("purity", "recall")),
        ]
        for name in CLASSES
    ]
    header = ["class", *(f"{figure}, {key}" for key in details for figure in ("purity", "recall"))]
    return Section("Classes", [], [Grid(header, rows, "Purity and recall, INT8, without the guard"), readiness], [confusion])


def guard_section(details: dict[str, Any], foreign: dict[str, float], pictures: Sequence[Picture]) -> Section:
    """What is accepted and what a person sees."""
    names = {
        "purity": "purity",
        "rejection_rate": "rejection rate",
        "ambiguous": "ambiguous",
        "unknown": "unknown",
        "escape_rate": "escape rate",
        "overkill_rate": "overkill",
    }
    rows = [[label, *(percent(details[key]["guard"][name]) for key in details)] for name, label in names.items()]
    killers = [
        [f"{name} {what}", *(percent(details[key]["guard"]["killers"][name][what]) for key in details)]
        for name in next(iter(details.values()))["guard"]["killers"]
        for what in ("recall", "kept")
    ]
    text = [
        "Behind the guard, the rates count what it accepts. Recall of a killer defect: accepted as what it is; kept: "
        "that, or shown to a person.",
        "Images that are no SEM images and come back as unknown: "
        + ", ".join(f"{kind} {percent(share)}" for kind, share in sorted(foreign.items()))
        + ".",
    ]
    return Section("Guard", text, [Grid(["INT8", *details], [*rows, *killers])], pictures)


def quantization_section(quantization: dict[str, Any], agreement: dict[str, float]) -> Section:
    """How far INT8 is from FP32."""
    noise = quantization["tensors_signal_to_noise_db"]
    worst = [[name, f"{noise[name]:.1f} dB"] for name in quantization["worst_tensors"]]
    shares = [[name, percent(share)] for name, share in agreement.items()]
    return Section(
        "Quantization",
        ["Share of images on which the INT8 file names the same class as the FP32 file, and the tensors that rounding "
         "hurts most, by the ratio of signal to rounding noise on the validation split."],
        [Grid(["test set", "agreement"], shares), Grid(["tensor", "signal to noise"], worst, "Ten worst tensors", True)],
    )  # fmt: skip


def latency_section(speed: dict[str, Any] | None, hashes: dict[str, str]) -> Section:
    """What a call takes, as `benchmarks.edge_speed` measured it, which is no part of this run."""
    title = "Latency"
    if speed is None:
        return Section(title, ["Not measured: run `python -m benchmarks.edge_speed`, then `dvc repro evaluate`."])
    rows = [
        [
            one["model"].rsplit("/", 1)[-1],
            one["image"],
            *(f"{one['recipes']['ours'][stage]['p50_ms']:.2f}" for stage in ("decode", "resize", "network", "whole")),
            f"{one['recipes']['ours']['whole']['p95_ms']:.2f}",
            f"{one['recipes']['ours']['images_per_second']:.0f}",
            f"{one['times_as_fast']['plain']['whole']:.2f}",
        ]
        for one in speed["calls"]
        if (one["threads"], one["batch"]) == (1, 1)
    ]
    stale = [name for name, digest in speed["files"].items() if hashes.get(name) != digest]
    text = [
        f"Measured by `{speed['command']}` on {speed['environment']['processor']}, one thread, medians in ms; apart from "
        f"this run, since times differ from run to run. The last column: how many times as fast as Pillow's and ONNX "
        f"Runtime's defaults."
    ]
    if stale:
        text.append(f"Measured on other files than those of this run: {', '.join(stale)}. Measure again.")
    header = ["file", "image", "decode", "resize", "network", "whole", "whole, p95", "images/s", "times plain"]
    return Section(title, text, [Grid(header, rows)])


def limits_section(real: int) -> Section:
    """What the figures do not say."""
    where = (
        f"{real} of the images are real; the test set *real* alone speaks for images like these."
        if real
        else "All images of this run are rendered. On real images the accuracy is lower and the guard's promise does not "
        "hold: docs/results.md has what was measured on real ones."
    )
    return Section(
        "What the figures do not say",
        [
            where,
            "How the model does on another microscope, process or magnification than those of its images. The promise of "
            "the guard is about images like those that it was calibrated on.",
            "Whether a label is right: where people disagree about a class, the figures are of one opinion.",
            "How often defects occur: the test sets are balanced, a fab is not. Purity in production depends on how many "
            "images are clean.",
            "Latency on other processors.",
        ],
    )


def robustness_section(robustness: dict[str, Any], pictures: Sequence[Picture]) -> Section:
    """How accuracy falls as images get worse."""
    models = list(robustness)
    rows = [
        [SHOWN[name], percent(robustness[name]["clean"]), percent(robustness[name]["mean"])] for name in models
    ]
    kinds = [
        [kind.replace("_", " "), *(percent(share) for share in robustness[models[-1]]["curves"][kind])]
        for kind in robustness[models[-1]]["curves"]
    ]
    text = [
        "The same images under each kind of damage, in five steps. The mean is over all kinds and steps, and falls with "
        "the least of them: a figure to compare models by, not what a tool delivers."
    ]
    severities = Grid(["damage", *map(str, range(1, 6))], kinds, f"Accuracy by severity, {SHOWN[models[-1]]}", True)
    return Section("Robustness", text, [Grid(["model", "undamaged", "mean, damaged"], rows), severities], pictures)


def attention_section(attention: dict[str, Any], picture: Picture) -> Section:
    """Whether the student looks at the defect."""
    rows = [
        [name, str(row["images"]), *(percent(row[key]) for key in ("pointing", "energy", "chance"))]
        for name, row in [*attention["per_class"].items(), ("mean", attention)]
    ]
    text = [
        "Heat maps of the student (HiResCAM) on rendered images, held against the masks that the renderer knows. "
        "Pointing: share of images in which the maximum lies on the defect; energy: share of the map that does; chance: "
        "what evidence strewn at random would reach. Clean images have no mask.",
    ]
    return Section("Does it look at the defect?", text, [Grid(["class", "images", "pointing", "energy", "chance"], rows)], [picture])


def leak_section(audit: dict[str, Any], picture: Picture) -> Section:
    """Whether two splits share a picture."""
    text = [
        f"{audit['images']} images of all splits, turned and mirrored, were held against those of the other splits by "
        f"perceptual hash, teacher features and correlation: {audit['candidates']} pairs of neighbours, "
        f"{audit['duplicates']} duplicates, {audit['crossing_groups']} lineage groups in two splits. "
        f"{audit['alike_by_accident']} pairs are alike by accident: they correlate, and are other pictures.",
        "More than 0 duplicates would have stopped the evaluation.",
    ]
    return Section("Leak audit", text, [], [picture])
