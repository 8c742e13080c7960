"""What each part of the recipe is worth on real images: cross-validation with one part changed at a time.

    python -m benchmarks.ablations --real ../shared/real_sem --jobs 2                    # all; a day on two cores
    python -m benchmarks.ablations --real ../shared/real_sem --jobs 2 --only Muon "teacher, KL"
    python -m benchmarks.ablations --list

The student alone (`ALONE`), through the stages and the folds of `benchmarks.real_cv`, whose workspaces it shares: what
is finished does not run again. Each variant is compared with another (--list) on the same images, by the INT8 file;
those called "teacher itself" by the teacher's own answers, without a student, in some minutes each. The interval is of
the difference, by resampling images, and knows nothing of the spread between two trainings.
All folds write benchmarks/results/ablations.json, others beside it; the file keeps the variants that an earlier run of
the same code, parameters and images measured.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import altered
from benchmarks.environment import RESULTS, code_hash, read_result, require_code, run_benchmark, write_result
from benchmarks.fold_scores import figures_of, interval
from benchmarks.real_cv import changed, folds_of, measure
from benchmarks.real_images import RealImages, collection_sha256, load_real
from benchmarks.workspaces import recipe_of
from semdefect.edge.options import whole
from semdefect.edge.table import percent
from semdefect.errors import UserError

REFERENCE, TEACHER = "reference", "teacher itself"
#: What all variants of the student share. One that the bars of the export refuse could not be scored, and without that
#: of INT8 none has further epochs; the fast student, which nothing here scores, trains for one.
COMMON = ("export_onnx.int8_agreement=0.0", "export_onnx.torch_tolerance=0.01", "distill.fast_epochs=1")
#: The student without a teacher.
ALONE = (*COMMON, "distill.alpha=1.0")
#: Fresh rendered images, for student and teacher: three quarters of an epoch's images, and most of its time.
FRESH, TEACHER_FRESH = "distill.fresh_per_class=600", "train_teacher.fresh_per_class=600"
#: Views instead of the images as they are, for both networks.
RANDOM_VIEWS = ("train_teacher.random_views=1.0", "distill.random_views=1.0")
#: What is usual, and was once the default: no ablation showed a gain of it on real images. The cells learn from fresh
#: images.
EXTRAS = (
    FRESH,
    "distill.ema_decay=0.995",
    "distill.label_smoothing=0.05",
    "distill.cell_weight=1.0",
    "distill.optimizer=muon",
)
TEACHER_EXTRAS = (
    TEACHER_FRESH,
    "train_teacher.ema_decay=0.99",
    "train_teacher.label_smoothing=0.05",
    "train_teacher.cell_weight=1.0",
    "train_teacher.optimizer=muon",
    "train_teacher.learning_rate=0.001",
)
#: What random weights need to learn anything, fresh images too: at the rate of pretrained ones they stay at chance.
FROM_RANDOM = (
    *EXTRAS,
    "distill.init=scratch",
    "distill.learning_rate=0.004",
    "distill.random_views=1.0",
    "distill.epochs=4",
    "distill.start_resolution=64",
    "distill.resolution=112",
)


@dataclass(frozen=True)
class Variant:
    """What differs from the default recipe.

    Attributes:
        settings: parameters, as `benchmarks.real_cv` takes them by ``--set``.
        part: name in `benchmarks.altered` of a part that params.yaml does not offer.
        against: the variant that it is compared with; the reference with itself.
        model: the one of `fold_scores.MODELS` that is compared.
    """

    settings: tuple[str, ...] = ()
    part: str = ""
    against: str = REFERENCE
    model: str = "int8"


def alone(*settings: str, part: str = "", against: str = REFERENCE) -> Variant:
    """A variant of the student without a teacher."""
    return Variant((*ALONE, *settings), part, against)


def taught(*settings: str, part: str = "", against: str = "teacher, KL") -> Variant:
    """A variant of the student beside its teacher."""
    return Variant((*COMMON, *settings), part, against)


def teaching(*settings: str) -> Variant:
    """A variant of the teacher, compared by its own answers: no student is trained."""
    return Variant(settings, against=TEACHER, model="teacher")


VARIANTS = {
    REFERENCE: alone(),
    "fresh rendered images": alone(FRESH),
    "random weights": alone(*FROM_RANDOM, against="fresh rendered images"),
    "real share 0.4": alone("distill.real_share=0.4"),
    "no augmented children": alone("synthesize.augmented_share=0.0"),
    "cells taught": alone(FRESH, "distill.cell_weight=1.0", against="fresh rendered images"),
    "batches of 16": alone("distill.batch_size=16"),
    "batches of 128": alone("distill.batch_size=128"),
    "Muon": alone("distill.optimizer=muon"),
    "half of the batches mixed": alone("distill.mixup=0.5"),
    "average of the weights": alone("distill.ema_decay=0.995"),
    "label smoothing": alone("distill.label_smoothing=0.05"),
    "random views": alone("distill.random_views=1.0"),
    "constant learning rate": alone(part="constant learning rate"),
    "gradients of any length": alone(part="gradients of any length"),
    # The weights of the package have batch norm folded into the convolutions.
    "random weights, batch norm re-estimated": alone(
        *FROM_RANDOM, part="batch norm re-estimated", against="random weights"
    ),
    "random weights, input at a fixed scale": alone(
        *FROM_RANDOM, part="input at a fixed scale", against="random weights"
    ),
    "teacher, KL": taught(against=REFERENCE),
    "teacher, standardised KL": taught("distill.method=standardised"),
    "teacher, DIST": taught("distill.method=dist"),
    "teacher, fresh images": taught(TEACHER_FRESH),
    "teacher, three epochs": taught("train_teacher.epochs=3"),
    "teacher, random views": taught(*RANDOM_VIEWS),
    "teacher sees another view": taught(
        *RANDOM_VIEWS, part="teacher sees another view", against="teacher, random views"
    ),
    "teacher, constant learning rate": taught(part="constant learning rate"),
    "teacher, extras": taught(*TEACHER_EXTRAS),
    "teacher, extras of both": taught(*TEACHER_EXTRAS, *EXTRAS),
    TEACHER: teaching(),
    "teacher itself, extras": teaching(*TEACHER_EXTRAS),
    "teacher itself, Muon": teaching("train_teacher.optimizer=muon", "train_teacher.learning_rate=0.001"),
    "teacher itself, average of the weights": teaching("train_teacher.ema_decay=0.99"),
    "teacher itself, label smoothing": teaching("train_teacher.label_smoothing=0.05"),
    "teacher itself, rate of 0.001": teaching("train_teacher.learning_rate=0.001"),
    "teacher itself, random views": teaching("train_teacher.random_views=1.0"),
    "teacher itself, half of the batches mixed": teaching("train_teacher.mixup=0.5"),
    "teacher itself, fresh images": teaching(TEACHER_FRESH),
    "teacher itself, three epochs": teaching("train_teacher.epochs=3"),
}
Answers = dict[int, dict[str, NDArray[np.float64]]]


def compared(images: RealImages, said: Answers, reference: Answers, model: str = "int8") -> dict[str, Any]:
    """Mean class accuracy of ``model``, mean over the folds, and how far it lies above that of ``reference``."""
    key = f"{model}_mean_class_accuracy"
    ours, theirs = (figures_of(images, each)[key] for each in (said, reference))
    rows = np.concatenate([np.flatnonzero(images.fold == fold) for fold in said])

    def hits(answers: Answers) -> NDArray[np.float64]:
        called = np.concatenate([answers[fold][model].argmax(axis=1) for fold in said])
        return (called == images.truth[rows]).astype(float)

    return {
        key: ours,
        "difference": ours - theirs,
        "difference_interval": interval(images, rows, hits(said) - hits(reference)),
    }


def show(variants: dict[str, Any]) -> None:
    """Print a row a variant."""
    table = Table("change", "mean class accuracy", "of", "difference", "95 %", "against")
    for name, figures in variants.items():
        low, high = (f"{100 * bound:+.1f}" for bound in figures["difference_interval"])
        gain = f"{100 * figures['difference']:+.1f}"
        model = figures["model"]
        share = percent(figures[f"{model}_mean_class_accuracy"])
        table.add_row(name, share, model, gain, f"{low} to {high}", figures["against"])
    Console().print(table)


def recipe_sha256(name: str) -> str:
    """Hash of what the variant ``name`` stands for, and of what it is compared with."""
    variant = VARIANTS[name]
    other = recipe_sha256(variant.against) if variant.against != name else ""
    about = [variant.model, recipe_of(changed(variant.settings)), altered.identity(variant.part), other]
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def asked_for(names: Sequence[str] | None) -> list[str]:
    """The variants called ``names`` (default: all) and those that they are compared with, these first.

    Raises:
        UserError: there is none of a name.
    """
    strange = sorted(set(names or []) - set(VARIANTS))
    if strange:
        raise UserError(f"--only {strange[0]!r}: there is no such variant; --list names them")
    wanted = set(names or VARIANTS)
    while not wanted >= (others := {VARIANTS[name].against for name in wanted}):
        wanted |= others
    return [name for name in VARIANTS if name in wanted]


def earlier(name: str, about: dict[str, Any], recipes: dict[str, str]) -> dict[str, Any]:
    """The variants in the result file ``name`` that are still as here, if the file is ``about`` the same.

    Args:
        name: of the result file.
        about: code, images, folds and jobs.
        recipes: variant → `recipe_sha256`.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return {}
    content = read_result(path, "variants")
    same = all(content.get(key) == value for key, value in about.items())
    kept = {key: one for key, one in content["variants"].items() if same and one.get("recipe") == recipes.get(key, "")}
    if gone := [key for key in content["variants"] if key not in kept]:
        print(f"{path} has figures of other code, images, jobs or recipes, which are written over: {', '.join(gone)}")
    return kept


def list_variants() -> None:
    """Print a line a variant: what it changes, and what it is compared with."""
    print(f"students: {' '.join(COMMON)}\n{REFERENCE}, the student alone: {' '.join(ALONE[len(COMMON) :])}")
    for name, variant in VARIANTS.items():
        shared = (ALONE, COMMON, ())
        base = next(settings for settings in shared if variant.settings[: len(settings)] == settings)
        changes = [*variant.settings[len(base) :]]
        changes += [f"{altered.PARTS[variant.part].meaning} (benchmarks.altered)"] if variant.part else []
        if name != REFERENCE:
            words = " and ".join(changes) or "the default recipe"
            print(f"{name}: {words}; against {variant.against}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, metavar="FOLDER", help="labelled real images, with labels.csv and its folds")
    top.add_argument("--folds", type=whole(0, 100), nargs="+", metavar="K", help="folds to hold out (default: each)")
    top.add_argument("--only", nargs="+", metavar="NAME", help="these variants and those that they are compared with")
    top.add_argument("--jobs", type=whole(1, 64), default=1, metavar="N", help="folds at a time (default: 1)")
    top.add_argument("--list", action="store_true", help="print what each changes and is compared with, and stop")
    return top


def run(options: argparse.Namespace) -> None:
    """Measure variant after variant; each is written as soon as it is there."""
    if options.list:
        list_variants()
        return
    if not options.real:
        raise UserError("--real FOLDER is missing: the labelled real images to train and score with")
    wanted = asked_for(options.only)
    images = load_real(options.real, changed(COMMON)["synthesize"]["duplicate_correlation"])
    folds, every = folds_of(images, options.folds, options.real)
    recipes = {name: recipe_sha256(name) for name in VARIANTS}
    about = {"code": code_hash(), "collection": collection_sha256(images), "folds": folds, "jobs": options.jobs}
    result = "ablations" if folds == every else f"ablations_folds{'-'.join(map(str, folds))}"
    variants, said = earlier(result, about, recipes), dict[str, Answers]()
    for name in wanted:
        variant = VARIANTS[name]
        teacher_alone = variant.model == "teacher"
        content = changed(variant.settings)
        said[name] = measure(images, folds, None, content, options.jobs, variant.part, teacher_alone)
        require_code(about["code"])
        measured = asdict(variant) | {"recipe": recipes[name]}
        variants[name] = measured | compared(images, said[name], said[variant.against], variant.model)
        path = write_result(result, about | {"variants": variants, "parameters": changed([])})
    show({name: variants[name] for name in VARIANTS if name in variants})
    print(f"written to {path}")


if __name__ == "__main__":
    run_benchmark(run, parser())
