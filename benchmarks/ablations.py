"""What each part of the recipe is worth on real images: cross-validation with one part changed at a time.

    python -m benchmarks.ablations --real ../shared/real_sem --jobs 2                    # all; hours on two cores
    python -m benchmarks.ablations --real ../shared/real_sem --jobs 2 --only Muon "teacher, KL"
    python -m benchmarks.ablations --list

A short form of the recipe (`SHORT`), through the stages and the folds of `benchmarks.real_cv`, whose workspaces it
shares: what is finished does not run again. Every variant is compared with the short form on the same images; the
interval is of the difference, by resampling images, and knows nothing of the spread between two trainings.
Writes benchmarks/results/ablations.json, which keeps the variants that an earlier run of the same code measured.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.environment import RESULTS, code_hash, run_benchmark, write_result
from benchmarks.real_cv import changed, figures_of, folds_of, interval, measure
from benchmarks.real_images import RealImages, load_real
from semdefect.edge.cli import whole
from semdefect.edge.table import percent
from semdefect.errors import UserError

REFERENCE = "reference"
#: The recipe, shortened so that twenty variants fit into hours: the student alone, on few fresh images.
SHORT = (
    "train_teacher.fresh_per_class=0",
    "train_teacher.epochs=1",
    "distill.alpha=1.0",
    "distill.fresh_per_class=600",
    "distill.epochs=3",
)
#: Beside a teacher: a real one, which trains as params.yaml says.
TAUGHT = ("distill.fresh_per_class=600", "distill.epochs=3", "distill.alpha=0.7")
VARIANTS: dict[str, tuple[str, ...]] = {
    REFERENCE: SHORT,
    "random weights": (*SHORT, "distill.init=scratch"),
    "no fresh rendered images": (*SHORT, "distill.fresh_per_class=0"),
    "real share 0.1": (*SHORT, "distill.real_share=0.1"),
    "real share 0.7": (*SHORT, "distill.real_share=0.7"),
    "no augmented children": (*SHORT, "synthesize.augmented_share=0.0"),
    "cells not taught": (*SHORT, "distill.cell_weight=0.0"),
    "resolution grows from 64 px": (*SHORT, "distill.start_resolution=64"),
    "batches of 16": (*SHORT, "distill.batch_size=16"),
    "batches of 128": (*SHORT, "distill.batch_size=128"),
    "Muon": (*SHORT, "distill.optimizer=muon"),
    "half of the batches mixed": (*SHORT, "distill.mixup=0.5"),
    "no average of the weights": (*SHORT, "distill.ema_decay=0.0"),
    "no label smoothing": (*SHORT, "distill.label_smoothing=0.0"),
    "teacher, KL": TAUGHT,
    "teacher, standardised KL": (*TAUGHT, "distill.method=standardised"),
    "teacher, DIST": (*TAUGHT, "distill.method=dist"),
}
Answers = dict[int, dict[str, NDArray[np.float64]]]


def compared(images: RealImages, said: Answers, reference: Answers) -> dict[str, Any]:
    """Mean class accuracy of the INT8 files, mean over the folds, and how far it lies above ``reference``."""
    ours, theirs = (figures_of(images, each)["int8_mean_class_accuracy"] for each in (said, reference))
    rows = np.concatenate([np.flatnonzero(images.fold == fold) for fold in said])

    def hits(answers: Answers) -> NDArray[np.float64]:
        called = np.concatenate([answers[fold]["int8"].argmax(axis=1) for fold in said])
        return (called == images.truth[rows]).astype(float)

    return {
        "int8_mean_class_accuracy": ours,
        "difference": ours - theirs,
        "difference_interval": interval(images.truth[rows], hits(said) - hits(reference), images.fold[rows]),
    }


def show(variants: dict[str, Any]) -> None:
    """Print a row a variant."""
    table = Table("change", "mean class accuracy (INT8)", "difference", "95 %")
    for name, figures in variants.items():
        low, high = (f"{100 * bound:+.1f}" for bound in figures["difference_interval"])
        gain = f"{100 * figures['difference']:+.1f}"
        table.add_row(name, percent(figures["int8_mean_class_accuracy"]), gain, f"{low} to {high}")
    Console().print(table)


def earlier(code: str, folds: list[int]) -> dict[str, Any]:
    """The variants that the result file holds, if it is of the same code and folds."""
    path = RESULTS / "ablations.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    variants: dict[str, Any] = content["variants"] if (content["code"], content["folds"]) == (code, folds) else {}
    return variants


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, metavar="FOLDER", help="labelled real images, with labels.csv and its folds")
    top.add_argument("--folds", type=whole(0, 100), nargs="+", metavar="K", help="folds to hold out (default: each)")
    top.add_argument("--only", nargs="+", metavar="NAME", help="these variants and the reference")
    top.add_argument("--jobs", type=whole(1, 64), default=1, metavar="N", help="folds at a time (default: 1)")
    top.add_argument("--list", action="store_true", help="print the variants and their settings, and stop")
    return top


def run(options: argparse.Namespace) -> None:
    """Measure variant after variant; each is written as soon as it is there."""
    if options.list:
        for name, settings in VARIANTS.items():
            print(f"{name}: {' '.join(settings)}")
        return
    if not options.real:
        raise UserError("--real FOLDER is missing: the labelled real images to train and score with")
    strange = sorted(set(options.only or []) - set(VARIANTS))
    if strange:
        raise UserError(f"--only {strange[0]!r}: there is no such variant; --list names them")
    images = load_real(options.real)
    folds, _ = folds_of(images, options.folds, options.real)
    names = [name for name in VARIANTS if name == REFERENCE or not options.only or name in options.only]
    code = code_hash()
    variants, reference = earlier(code, folds), None
    for name in names:
        said = measure(images, folds, None, changed(VARIANTS[name]), options.jobs)
        reference = reference if reference is not None else said
        variants[name] = {"settings": VARIANTS[name], **compared(images, said, reference)}
        path = write_result("ablations", {"code": code, "folds": folds, "variants": variants})
    show(variants)
    print(f"written to {path}")


if __name__ == "__main__":
    run_benchmark(run, parser())
