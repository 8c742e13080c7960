"""``metrics/MODEL_CARD.md``: what the models of a run are, for whom, from what, and how good.

Headings: Mitchell and others, "Model Cards for Model Reporting", FAT* 2019, section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from semdefect import CLASSES, __version__
from semdefect.atomic import replacing
from semdefect.card_tables import Scored, data_counts, files, guarded, headline, per_class, settings
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.metadata import PREPROCESSING, ModelMetadata
from semdefect.edge.table import percent
from semdefect.evaluation import PLAIN
from semdefect.intervals import LEVEL, RESAMPLES
from semdefect.leak_audit import crossing_groups
from semdefect.manifest import Row
from semdefect.markdown import code, folded
from semdefect.network import file_sha256, read_provenance, sem_weights
from semdefect.params import WHERE_DRAWN, Params, Training

_CARD = Template("""# Model card

Written by `dvc repro evaluate` from the run's own files and answers; every figure below is measured on them.

## Model details

- Classifier of grayscale SEM images, semdefect $version; licence: [LICENSE](../LICENSE), questions: the project's
  issues.
- Teacher: `$teacher` at $teacher_side px. Students, exported to ONNX: `$student` at $student_side px,
  which learned from $taught, and its first blocks alone at $fast_side px (`student_fast`), which learned from it.
- `$shipped` is the file that is shipped.
- Classes, in the order of the logits: $classes.
- Teacher started from $teacher_start.
- Student started from $student_start.

$files

**Input and output.** `input` `[N, 1, $side, $side]` float32: gray, in [$low, $high], resized by
`semdefect.edge.image` ($resample). Outputs: `logits [N, $n]` and `unknown [N]`, 0 to 1. Probabilities are the softmax
of the logits over the temperature, $temperature. Classes, temperature and the guard's thresholds are
in each file's metadata, key `semdefect`.

## Intended use

- Sorting SEM images of structures on wafers by defect, on a processor beside the tool, where a person looks at what the
  guard sends to review.
- For engineers who know the process, can check samples of what is accepted, and train again with images of their own.
- Not for: decisions on a chip or lot that nobody checks; measuring or locating defects; other kinds of images than SEM
  images of wafers; classes that are not listed (`other` stands for defects of none of the classes, not for everything
  unknown); accepting images that the guard sends to review.

## Factors

- Class: figures are given for each.
- Imaging: *noisy* holds the images of *clean* under $corruptions.
- Origin: $origins
- Tool, process and operator are not recorded, so that no figure is given for them.

## Metrics

- *Accuracy*: share of images called right; *mean class accuracy*: mean recall of the classes; *macro F1*: mean F1 of
  the classes.
- *Purity* (precision): of the images called a class, or accepted by the guard, the share that is right. *Recall*: of
  the images of a class, the share that is called so.
- *Rejection rate*: share that goes to review. *Escape rate*: of the defects, the share accepted as clean. *Overkill*:
  of the clean images, the share accepted as a defect.
- In brackets: $level intervals. Accuracies and F1: bootstrap over lineage groups within each class, $draws draws; other
  shares: Wilson, images taken as independent. They are about other images of the same kind, not another training.

## Evaluation data

$evaluation

## Training data

$training

$counts

$recipe

## Quantitative analyses

### Models

$headline

`$shipped` names the same class as `$plain` on $agreement.

### Classes and conditions, `$shipped`

$per_class

### The guard, `$shipped`

Promised: a purity of at least $promised in what is accepted, with a probability of $confidence over calibration images
drawn anew. Kept:

$guarded

## Ethical considerations

The images show structures on wafers, no people. An error costs: a defect that is accepted as clean is shipped, a clean
image called a defect is scrapped or looked at again. Who works with the guard sees the doubtful images only, and should
be shown a sample of the accepted ones as well. Rights to real images stay with their owners: none are part of a model
file, but a model learns from them.

## Caveats and recommendations

$caveats
""")


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        params: what it was asked for.
        splits: ``train``, ``val`` and ``test`` → rows.
        scored: test sets and answers.
        students: the exported files by name.
        teacher: the teacher's checkpoint.
    """

    params: Params
    splits: dict[str, list[Row]]
    scored: Scored
    students: dict[str, EdgeClassifier]
    teacher: Path

    @property
    def shipped(self) -> ModelMetadata:
        """What the shipped file says of itself."""
        return self.students[self.scored.shipped].metadata


def write_model_card(run: Run, path: Path) -> None:
    """Write the card, whole or not at all; equal runs give equal bytes.

    Raises:
        UserError: the weights that a network started from are missing.
    """
    text = _CARD.substitute(_details(run) | _data(run) | _analyses(run))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _details(run: Run) -> dict[str, Any]:
    teacher, student = run.params.train_teacher, run.params.distill
    low, high = PREPROCESSING["range"]
    return {
        "version": __version__,
        "teacher": teacher.model,
        "teacher_side": teacher.resolution,
        "student": student.model,
        "student_side": student.resolution,
        "taught": "labels and teacher" if student.alpha < 1 else "labels alone",
        "fast_side": student.fast_resolution,
        "shipped": run.scored.shipped,
        "plain": PLAIN,
        "classes": ", ".join(run.shipped.classes),
        "n": len(run.shipped.classes),
        "teacher_start": origin(teacher),
        "student_start": origin(student),
        "files": files(run.teacher, run.students),
        "side": PREPROCESSING["size"],
        "low": low,
        "high": high,
        "resample": PREPROCESSING["resample"],
        "temperature": f"{run.shipped.temperature:g} for `{run.scored.shipped}`",
    }


def origin(recipe: Training) -> str:
    """What weights a training started from, and where those came from."""
    if recipe.init == "scratch":
        return "random weights"
    if recipe.init == "imagenet":
        return f"timm's ImageNet weights of {code(recipe.model)}, hub revision {code(recipe.hub_revision)}"
    path = sem_weights(recipe.model) if recipe.init == "sem" else Path(recipe.init)
    shown = f"semdefect/weights/{path.name}" if recipe.init == "sem" else path.name
    return f"{code(shown)} (SHA-256 {code(file_sha256(path)[:16])}…){_history(read_provenance(path))}"


def _history(provenance: dict[str, Any]) -> str:
    """The runs that made a file of weights, the last first."""
    runs: list[str] = []
    while provenance:
        images, real = provenance.get("rendered_images"), provenance.get("real_images")
        recipe, views = provenance.get("recipe", {}), provenance.get("views")  # a run by the clock has no epochs
        length = f"{recipe.get('epochs')} epochs on" if views is None else f"{views} views of"
        stays = provenance.get("averaged_with_start")
        average = f", averaged, {stays:.0%} of it the start" if stays else ""
        runs.append(f"{length} {images} rendered and {real} real images{average}")
        provenance = provenance.get("started_from") or {}
    return f", made by pretraining, the last run first: {'; '.join(runs)}" if runs else ", of unknown origin"


def _data(run: Run) -> dict[str, str]:
    params, test = run.params, run.splits["test"]
    noise = params.evaluate.noisy.model_dump()
    return {
        "corruptions": ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in noise.items()),
        "origins": _origins(test),
        "level": f"{LEVEL:.0%}",
        "draws": str(RESAMPLES),
        "evaluation": _evaluation(run),
        "training": _training(run),
        "counts": data_counts(run.splits),
        "recipe": folded("All parameters", _recipe(params)),
    }


def _origins(test: Sequence[Row]) -> str:
    children = sum(row.family == "augmented" for row in test)
    real = sum(row.origin == "real" for row in test) - children
    rendered = len(test) - real - children
    return f"of {len(test)} test images {real} are real, {children} drawn from these, {rendered} rendered."


def _evaluation(run: Run) -> str:
    told = {
        "clean": "the test split",
        "noisy": "those of *clean*, corrupted (see *Factors*)",
        "fresh": "rendered for this test alone, from seeds that nothing else draws",
        "real": "the real images of the test split",
    }
    sets = [
        f"- *{name}*: {len(run.scored.sets[name].names)} images, {told.get(name, 'a further set')}."
        for name in run.scored.names
    ]
    shared = len(crossing_groups(run.splits))
    return "\n".join([*sets, f"- Lineage groups (an image, its children and near-duplicates) in two splits: {shared}."])


def _training(run: Run) -> str:
    params, alone = run.params, any(row.origin == "real" for row in run.splits["val"])
    more = 0 if alone else params.export_onnx.calibration_per_class
    lines = [
        f"- Teacher: {learned_from(params.train_teacher)}.",
        f"- Student: {learned_from(params.distill)}.",
        f"- Temperature and guard: {_beside('validation', more)}.",
    ]
    return "\n".join(lines)


def learned_from(recipe: Training) -> str:
    """What a network learned from, in words."""
    return _beside("training", recipe.fresh_per_class)


def _beside(split: str, count: int) -> str:
    return f"the {split} split" + (f" and {count} further rendered images of each class" if count else " alone")


def _recipe(params: Params) -> str:
    """Parameters that shape the result; not those that only stop a run or say where weights are fetched."""
    teacher, student = params.train_teacher.model_dump(), params.distill.model_dump()
    for column in (teacher, student):
        if column["init"] != "imagenet":
            del column["hub_revision"]
    data = {"seed": params.base.seed} | params.synthesize.model_dump(exclude=WHERE_DRAWN) | params.split.model_dump()
    return "\n\n".join([settings({"data set": data}), settings({"train_teacher": teacher, "distill": student})])


def _analyses(run: Run) -> dict[str, str]:
    scored, guard = run.scored, run.shipped.guard
    plain, shipped = scored.outcomes[PLAIN], scored.outcomes[scored.shipped]
    agree = {name: float((plain[name].predicted == shipped[name].predicted).mean()) for name in scored.names}
    models = dict.fromkeys(("teacher", PLAIN, scored.shipped))
    return {
        "headline": headline(scored, list(models)),
        "agreement": ", ".join(f"{percent(share)} of *{name}*" for name, share in agree.items()),
        "per_class": per_class(scored),
        "promised": percent(guard.target_purity),
        "confidence": percent(guard.confidence),
        "guarded": guarded(scored, guard.target_purity),
        "caveats": "\n".join(f"- {line}" for line in _caveats(run)),
    }


def _caveats(run: Run) -> list[str]:
    scored = run.scored
    lines = []
    if "real" not in scored.sets:
        lines.append(
            "No test image is a real one: the figures say how the models do on images of this renderer. What models of "
            "this pipeline do on real images is in [docs/results.md](../docs/results.md)."
        )
    largest = max(scored.names, key=lambda name: len(scored.sets[name].names))
    outcome = scored.outcomes[scored.shipped][largest]
    right = outcome.truth == outcome.predicted
    recalls = {n: float(right[outcome.truth == n].mean()) for n in range(len(CLASSES)) if (outcome.truth == n).any()}
    worst = min(recalls, key=lambda number: recalls[number])
    lines += [
        f"The class found least often is `{CLASSES[worst]}`: {percent(recalls[worst])} of its images in *{largest}*.",
        "The guard's promise is about images like those it was calibrated on; on those of another tool or process, "
        "calibrate again with labelled images from there.",
        "`student_fast` answers first where adaptive inference is on, with thresholds of its own in its metadata.",
        "Latency is not part of this card: it depends on the machine, `semdefect bench` measures it.",
    ]
    return lines
