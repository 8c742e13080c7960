"""Sim-to-real: train the student on rendered images only, and score it on real ones that trained nothing.

    python -m benchmarks.sim2real --real ../shared/real_sem               # one seed: about 20 minutes on two cores
    python -m benchmarks.sim2real --real ../shared/real_sem --seeds 3     # the figure that is quoted
    python -m benchmarks.sim2real --real ../shared/real_sem --seeds 3 --threads 1   # beside other work
    python -m benchmarks.sim2real --real ../shared/real_sem --epochs 4 --images 2000 --without bridge/fork

The student starts from random weights, by the recipe of pretrain/params.yaml with `FROM_RANDOM` laid over: labels and
masks, no teacher. Threads, device and precision are params.yaml's (`base`). It is scored on all labelled
images of the folder, through the exported files and the device's code. Killed and run again it goes on; a finished
seed of the same code and budget is not trained again (.scratch/sim2real). Only three seeds with the default budget and
no family left out write benchmarks/results/sim2real.json; other runs write beside it, under a name of their own.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn import metrics

from benchmarks.environment import code_hash, require_code, run_benchmark, write_result
from benchmarks.real_images import RealImages, load_real, probabilities
from pretrain.backbone import PARAMS as PRETRAIN_PARAMS
from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.calibration import review_all
from semdefect.device import create_accelerator
from semdefect.edge.metadata import ModelMetadata
from semdefect.edge.options import whole
from semdefect.edge.scoring import confusion_matrix, recalls, score
from semdefect.edge.table import percent
from semdefect.errors import UserError
from semdefect.export import save_onnx
from semdefect.losses import LabelLoss
from semdefect.network import create_network, file_sha256, load_network
from semdefect.onnx_graph import to_onnx
from semdefect.params import Base, Pretrain, Student, load_params, load_shaped
from semdefect.quantization import integer_weights
from semdefect.rounding import calibrate
from semdefect.seeds import BENCHMARK, STUDENT
from semdefect.stage import alone
from semdefect.startup import start_again
from semdefect.synthesis import check_families, families_of
from semdefect.training import Trainer
from semdefect.training_data import fresh_images
from semdefect.variants import scales_of

SCRATCH = Path(".scratch/sim2real")
#: The budget of the quoted figure: rendered images a class, and passes over them.
IMAGES, EPOCHS, SEEDS = 8_000, 6, 3
VALIDATION = 60
#: Laid over pretrain/params.yaml, which goes on from trained weights: random ones want a higher rate, growing images.
FROM_RANDOM = {
    "init": "scratch",
    "start_resolution": 64,
    "resolution": 112,
    "fresh_size": 112,
    "batch_size": 48,
    "learning_rate": 0.004,
}


def train(base: Base, recipe: Student, without: frozenset[str], folder: Path) -> Path:
    """Train the student of one seed, or take it from ``folder`` where it is finished; its checkpoint."""
    parts = [code_hash(), base.model_dump(), recipe.model_dump(), sorted(without), VALIDATION]
    identity = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    model, finished = folder / "model.safetensors", folder / "identity"
    if finished.is_file() and finished.read_text() == identity:
        return model
    finished.unlink(missing_ok=True)
    accelerator = create_accelerator(base, bf16_pays=False)
    network = create_network(recipe.model, recipe.resolution)  # random weights: all it knows comes from this budget
    size = recipe.fresh_size
    data = fresh_images(recipe.fresh_per_class, recipe.resolution, STUDENT, base.seed, without, size)
    validation = fresh_images(VALIDATION, recipe.resolution, BENCHMARK, base.seed, without, size)
    loss = LabelLoss(recipe.cell_weight)
    trainer = Trainer(folder.name, network, loss, recipe, data, accelerator, base.seed)
    trainer.run(validation, model, folder, identity)
    with replacing(finished) as temporary:
        temporary.write_text(identity)
    return model


def export(checkpoint: Path) -> dict[str, Path]:
    """FP32 file of a checkpoint and one with INT8 weights, beside it; without calibration, which changes no class."""
    about = ModelMetadata(CLASSES, 1.0, review_all(len(CLASSES)), "fp32", file_sha256(checkpoint))
    network = load_network(checkpoint)
    network.add_rounding()
    network.add_unknown()
    calibrate(network, fresh_images(8, network.resolution, BENCHMARK, 0).pixels)
    files = {"fp32": checkpoint.with_name("fp32.onnx"), "int8": checkpoint.with_name("int8.onnx")}
    fp32 = to_onnx(network)
    save_onnx(fp32, about, files["fp32"])
    weights = integer_weights(fp32, scales_of(network))
    save_onnx(weights, replace(about, precision="int8-weights"), files["int8"])
    return files


def figures_of(runs: Sequence[dict[str, NDArray[np.float64]]], images: RealImages) -> dict[str, Any]:
    """Means over the ``runs`` (one a seed, file → probabilities), and what each seed gave.

    The top-level figures are of the FP32 file; ``int8`` holds the INT8 file's beside them.
    """
    scores = [{name: score(images.truth, rows, CLASSES) for name, rows in run.items()} for run in runs]
    confusion = sum(confusion_matrix(images.truth, run["fp32"].argmax(axis=1), len(CLASSES)) for run in runs)
    hits = np.mean([run["fp32"].argmax(axis=1) == images.truth for run in runs], axis=0)

    def mean(file: str, key: str) -> float:
        return float(np.mean([one[file][key] for one in scores]))

    return {
        "accuracy": mean("fp32", "accuracy"),
        "mean_class_accuracy": mean("fp32", "mean_class_accuracy"),
        "log_loss": float(np.mean([log_loss(images.truth, run["fp32"]) for run in runs])),
        "int8": {key: mean("int8", key) for key in ("accuracy", "mean_class_accuracy")},
        "recall": dict(zip(CLASSES, recalls(np.asarray(confusion)), strict=True)),
        "recall_by_original_class": {
            name: float(hits[images.original == name].mean()) for name in sorted(set(images.original.tolist()))
        },
        "confusion": np.asarray(confusion).tolist(),
        "images": len(images.truth),
        "seeds": [
            {key: one["fp32"][key] for key in ("accuracy", "mean_class_accuracy", "escape_rate", "overkill_rate")}
            for one in scores
        ],
    }


def log_loss(truth: NDArray[np.int64], rows: NDArray[np.float64]) -> float:
    """Mean over the classes of −log p of the true class; steadier between seeds than the share of right answers."""
    weights = 1 / np.bincount(truth, minlength=rows.shape[1])[truth]
    return float(metrics.log_loss(truth, rows, sample_weight=weights, labels=range(rows.shape[1])))


def show(figures: dict[str, Any]) -> None:
    """Print headline, recall by class and by original class, and the confusion matrix."""
    console = Console()
    for file, part in (("FP32", figures), ("INT8", figures["int8"])):
        console.print(
            f"{file}: accuracy {percent(part['accuracy'])}, mean class accuracy "
            f"{percent(part['mean_class_accuracy'])} on {figures['images']} real images, mean of "
            f"{len(figures['seeds'])} seed(s)"
        )
    console.print(f"log loss (FP32, mean over the classes): {figures['log_loss']:.3f}")
    table = Table("true \\ called", *CLASSES, "recall", title="Confusion (FP32, all seeds)")
    for name, row in zip(CLASSES, figures["confusion"], strict=True):
        table.add_row(name, *map(str, row), percent(figures["recall"][name]))
    console.print(table)
    by_original = [f"{name} {percent(share)}" for name, share in figures["recall_by_original_class"].items()]
    console.print("recall by original class:", ", ".join(by_original))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, required=True, metavar="FOLDER", help="labelled real images, with labels.csv")
    top.add_argument(
        "--seeds", type=whole(1, 100), default=1, metavar="N", help="runs, of seeds 0 to N - 1 (default: 1)"
    )
    top.add_argument(
        "--images", type=whole(1, 100_000), default=IMAGES, metavar="N", help=f"rendered images a class ({IMAGES})"
    )
    top.add_argument("--epochs", type=whole(1, 1000), default=EPOCHS, metavar="N", help=f"passes over them ({EPOCHS})")
    top.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="CLASS/FAMILY",
        help="leave a scene family out of training; may be given several times",
    )
    top.add_argument("--threads", type=whole(1, 1024), metavar="N", help="instead of base.threads of params.yaml")
    return top


def run(options: argparse.Namespace) -> None:
    """Train, score, print, write."""
    images = load_real(options.real)
    params, recipe = load_params(), load_shaped(PRETRAIN_PARAMS, Pretrain).student
    threads = options.threads or params.base.threads
    recipe = recipe.model_copy(update=FROM_RANDOM | {"fresh_per_class": options.images, "epochs": options.epochs})
    without = frozenset(options.without)
    _check(without)
    parts = [f"{options.images}x{options.epochs}", *(family.replace("/", "-") for family in sorted(without))]
    quoted = (options.images, options.epochs, options.seeds) == (IMAGES, EPOCHS, SEEDS) and not without
    name = "sim2real" if quoted else "_".join(["sim2real", *parts, f"{options.seeds}seeds"])
    code, runs = code_hash(), []
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with alone(SCRATCH / "lock", f"{SCRATCH} is in use by another run of this benchmark", ()):
        for seed in range(options.seeds):
            base = params.base.model_copy(update={"seed": seed, "threads": threads})
            folder = SCRATCH / "_".join([*parts, str(seed)])
            files = export(train(base, recipe, without, folder))
            runs.append({file: probabilities(path, images.paths, base.threads) for file, path in files.items()})
            require_code(code)
    figures = figures_of(runs, images)
    figures["budget"] = {
        "rendered_images": options.images * len(CLASSES),
        "epochs": options.epochs,
        "views": options.images * len(CLASSES) * options.epochs,
        "without": sorted(without),
        "threads": threads,
        "recipe": recipe.model_dump(),
    }
    show(figures)
    print(f"written to {write_result(name, figures)}")


def _check(without: frozenset[str]) -> None:
    """Refuse names that are none, and a class without any family left.

    Raises:
        UserError: names the family or the class.
    """
    check_families(without)
    for label in CLASSES:
        if all(f"{label}/{family}" in without for family in families_of(label)):
            raise UserError(f"--without leaves no family of {label}: leave one in")


if __name__ == "__main__":
    start_again()
    run_benchmark(run, parser())
