"""What a leak is worth: one recipe, scored on a leaky split, on a lineage split, and on real images from elsewhere.

    python -m benchmarks.leakage --real ../shared/real_sem                 # from random weights: 15 minutes, one core
    python -m benchmarks.leakage --real ../shared/real_sem --init sem      # from the package's weights
    python -m benchmarks.leakage --real ../shared/real_sem --draws 3       # three draws of base images
    python -m benchmarks.leakage --plot docs/leakage.png                   # the picture, from what is measured

From one fold of labels.csv it takes a few base images a class, none a near-duplicate of another of it, as few as
earlier systems had, and augments them to 300 a class by `semdefect.synthesis.augment`, which keeps the class. These are
split in two ways, 70/15/15: at random, so that children of one base image lie in training and in test, and by lineage,
as `split` does. On each split `distill` trains the student and `export_onnx` exports it, with the same parameters
(`RECIPE`), and the INT8 file names the classes of that split's test images, through the device's code. Both files also
name those of the real images of all other folds that are no near-duplicates of a base image: what a user has.

The student learns from labels alone and from random weights, since the earlier systems knew no SEM images but their
own; no teacher is asked. Killed and run again it goes on (.scratch/real_cv; may be deleted). The default run writes
benchmarks/results/leakage.json, the same with ``--init sem`` leakage_sem.json; any other writes beside them, under a
name of its own.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.environment import code_hash, require_code, run_benchmark, write_result
from benchmarks.leakage_data import FEWEST, KINDS, MOST, Draw, draw_of, make_data
from benchmarks.leakage_figures import Scored, figures_of, plot, show
from benchmarks.real_cv import folds_of
from benchmarks.real_images import RealImages, load_real, predictions
from benchmarks.workspaces import ROOT, SCRATCH, Children, alone, identities, mark, prepare, run_stages, staged, starts
from semdefect import CLASSES
from semdefect.edge.classifier import Prediction
from semdefect.edge.options import whole
from semdefect.errors import UserError
from semdefect.manifest import IMAGES, SPLITS, read_manifest
from semdefect.network import create_network, file_sha256, save_network
from semdefect.params import PARAMS, Params, check_params
from semdefect.startup import start_again

#: Base images a class, and draws of them.
BASES, DRAWS = 10, 1
#: Laid over params.yaml: labels alone, no rendered image, and no bar that a network of so few images cannot clear.
RECIPE: dict[str, dict[str, Any]] = {
    "base": {"threads": 1, "device": "cpu", "precision": "fp32"},
    "synthesize": {"images_per_class": 300},
    "split": {"train": 0.7, "val": 0.15, "test": 0.15},
    "distill": {
        "alpha": 1.0,
        "init": "scratch",
        "fresh_per_class": 0,
        "resolution": 96,
        "start_resolution": 96,
        "epochs": 20,
        "batch_size": 32,
        "optimizer": "adamw",
        "learning_rate": 0.002,
        "label_smoothing": 0.05,
        "random_views": 1.0,
        "cell_weight": 0.0,
        "ema_decay": 0.98,
        "int8_epochs": 1,
        "int8_learning_rate": 0.0003,
        "fast_resolution": 32,
        "fast_epochs": 1,
        "fast_optimizer": "adamw",
    },
    "export_onnx": {"int8_agreement": 0.0, "fast_agreement": 0.0, "calibration_per_class": 0},
}
#: The stages that run in a workspace. Its data are made here, its teacher is a network that nobody asks.
TRAINING = ("distill", "export_onnx")


def recipe(init: str) -> dict[str, Any]:
    """The parameters: `RECIPE` over ``params.yaml``, from the weights that ``init`` names."""
    content: dict[str, Any] = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))
    for block, values in RECIPE.items():
        content[block] |= values
    content["distill"]["init"] = init
    return content


def workspace_of(
    images: RealImages, draw: Draw, kind: str, content: dict[str, Any], code: str
) -> tuple[Path, dict[str, str]]:
    """The folder for a ``draw`` of base images with the split of ``kind``, and the identities of its stages."""
    files = [(staged(images, index), file_sha256(images.paths[index])) for index in draw.bases]
    wanted = identities(code, [("split", kind), *files], content)
    stages = {stage: wanted[stage] for stage in TRAINING}
    return SCRATCH / f"leakage_{kind}_{stages[TRAINING[-1]]}", stages


def train(images: RealImages, draw: Draw, kind: str, content: dict[str, Any], code: str, children: Children) -> Path:
    """Make the data set, train on it and export, or go on with that; the workspace."""
    workspace, stages = workspace_of(images, draw, kind, content, code)
    ready = workspace / ".ready"
    if not ready.exists():
        prepare(workspace, images, draw.bases, content)
        make_data(workspace, kind, check_params(content, PARAMS, Params))
        torch.manual_seed(0)
        save_network(create_network("convnext_atto", 32), workspace / "models/teacher/model.safetensors")
        mark(ready, "")
    run_stages(workspace, code, stages, children)
    return workspace


def answers(workspace: Path, paths: list[Path], truth: list[int], group: list[Any]) -> Scored:
    """What the INT8 file of a ``workspace`` says of the images at ``paths``, and the FP32 file beside it."""
    said: dict[str, list[Prediction]] = {
        name: predictions(workspace / f"models/edge/student_{name}.onnx", paths, 1) for name in ("int8", "fp32")
    }
    called = {name: np.array([CLASSES.index(one.label) for one in row]) for name, row in said.items()}
    accepted = np.array([one.decision == "accept" for one in said["int8"]])
    _, numbers = np.unique(group, return_inverse=True)
    return Scored(np.array(truth), numbers, called["int8"], called["fp32"], accepted)


def score(workspaces: dict[str, Path], images: RealImages, draw: Draw) -> dict[str, Scored]:
    """Answers of both models on their own test split, and on the images elsewhere."""
    said = {}
    for kind, workspace in workspaces.items():
        rows = read_manifest(workspace / SPLITS / "test.csv")
        paths = [workspace / IMAGES / row.path for row in rows]
        said[kind] = answers(workspace, paths, [CLASSES.index(row.label) for row in rows], [row.group for row in rows])
        away = [images.paths[index] for index in draw.elsewhere]
        truth, group = images.truth[draw.elsewhere].tolist(), images.group[draw.elsewhere].tolist()
        said[f"{kind}, elsewhere"] = answers(workspace, away, truth, group)
    return {
        "leaky_split": said["random"],
        "lineage_split": said["lineage"],
        "elsewhere": said["random, elsewhere"],
        "elsewhere_of_lineage": said["lineage, elsewhere"],
    }


def measure(images: RealImages, folds: list[int], per_class: int, content: dict[str, Any]) -> list[dict[str, Scored]]:
    """Train and score for a draw of base images from each of ``folds``."""
    code, children, draws = code_hash(), Children(), []
    (SCRATCH / "fresh").mkdir(parents=True, exist_ok=True)
    with alone():
        try:
            for fold in folds:
                draw = draw_of(images, fold, per_class)
                trained = {kind: train(images, draw, kind, content, code, children) for kind in KINDS}
                draws.append(score(trained, images, draw))
        finally:
            children.stop()
    require_code(code)
    return draws


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, metavar="FOLDER", help="labelled real images, with labels.csv and its folds")
    top.add_argument(
        "--init", choices=("scratch", "sem"), default="scratch", help="weights to start from (default: scratch)"
    )
    top.add_argument(
        "--bases",
        type=whole(FEWEST, MOST),
        default=BASES,
        metavar="N",
        help=f"base images a class, {FEWEST} to {MOST}, fewer where a fold has fewer (default: {BASES})",
    )
    top.add_argument(
        "--draws", type=whole(1, 100), default=DRAWS, metavar="N", help=f"draws, each from a fold (default: {DRAWS})"
    )
    top.add_argument("--plot", type=Path, metavar="FILE", help="draw the picture of the results there are, and stop")
    return top


def run(options: argparse.Namespace) -> None:
    """Train, score, print, write."""
    if options.plot:
        plot(options.plot)
        return
    if not options.real:
        raise UserError("--real FOLDER is missing: the labelled real images to take base images from and score with")
    images, content = load_real(options.real), recipe(options.init)
    _, every = folds_of(images, None, options.real)
    if options.draws > len(every):
        raise UserError(f"--draws {options.draws}: {options.real}/labels.csv has {len(every)} folds, one for each draw")
    folds = every[: options.draws]
    figures = figures_of(measure(images, folds, options.bases, content))
    bases = [np.bincount(images.truth[draw_of(images, fold, options.bases).bases]).tolist() for fold in folds]
    figures |= {"base_images": [dict(zip(CLASSES, row, strict=True)) for row in bases], "folds": folds}
    figures |= {"parameters": content, "start": starts(content)["distill"], "code": code_hash()}
    show(figures)
    changed = {"bases": (options.bases, BASES), "draws": (options.draws, DRAWS)}
    special = [f"{name}{now}" for name, (now, usual) in changed.items() if now != usual]
    name = "_".join(["leakage", *(["sem"] if options.init == "sem" else []), *special])
    print(f"written to {write_result(name, figures)}")


if __name__ == "__main__":
    start_again()
    run_benchmark(run, parser())
