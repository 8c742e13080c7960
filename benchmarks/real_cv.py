"""Cross-validation on real images: the pipeline's own stages, the exported files, images that trained nothing.

    python -m benchmarks.real_cv --real ../shared/real_sem                        # all five folds; an hour on two cores
    python -m benchmarks.real_cv --real ../shared/real_sem --folds 0              # one
    python -m benchmarks.real_cv --real ../shared/real_sem --jobs 2               # two at a time, on one thread each
    python -m benchmarks.real_cv --real ../shared/real_sem --real-per-class 16    # few real images
    python -m benchmarks.real_cv --real ../shared/real_sem --set distill.alpha=1.0
    python -m benchmarks.real_cv --plot docs/real_images.png                      # the curve, from what is measured

For each fold, the real images of the others are laid into data/real of a workspace, and synthesize, split,
train_teacher, distill and export_onnx run there as they would for a user. Then the FP32 and INT8 files, through the
device's code, and the teacher name the classes of the fold's images. The folds are those of labels.csv; an image whose
near-duplicate (as `synthesize` finds them) is held out does not train. Parameters are params.yaml's but for the split:
the fold is the test, so that the pipeline keeps none of its own; 15 % of the images it gets choose the best epoch.

Killed and run again it goes on: a finished stage of the same code, data and parameters does not run again, nor do those
that another run with other parameters for later stages has finished (.scratch/real_cv; may be deleted). All folds with
the default parameters write benchmarks/results/real_cv.json, or real_cv_N.json with N real images a class; anything
else writes beside them, under a name of its own.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.special import softmax

from benchmarks import altered
from benchmarks.environment import RESULTS, code_hash, read_result, require_code, run_benchmark, write_result
from benchmarks.real_images import RealImages, load_real, probabilities
from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.cli import whole
from semdefect.edge.image import open_gray, to_pixels
from semdefect.edge.scoring import confusion_matrix, mean_class_accuracy, recalls
from semdefect.edge.table import percent
from semdefect.errors import UserError
from semdefect.evaluation import run_teacher
from semdefect.network import file_sha256, weights_hash
from semdefect.params import PARAMS, Params, check_params
from semdefect.training_data import KEPT

ROOT = Path(__file__).resolve().parents[1]
SCRATCH = Path(".scratch/real_cv")
#: The stages that a fold goes through, and the folder that each fills.
STAGES = {
    "synthesize": "data/synthetic",
    "split": "data/splits",
    "train_teacher": "models/teacher",
    "distill": "models/student",
    "export_onnx": "models/edge",
}
MODELS = ("teacher", "fp32", "int8")
SPLIT = {"train": 0.85, "val": 0.15, "test": 0.0}
RESAMPLES = 2000


def chosen(images: RealImages, fold: int, per_class: int | None) -> NDArray[np.int64]:
    """Indices of the images that the pipeline gets while ``fold`` is held out: ``per_class`` of each class, or all.

    None is a near-duplicate of one that is held out.
    """
    held_out = images.fold == fold
    others = np.flatnonzero(~np.isin(images.group, images.group[held_out]))
    if per_class is None:
        return others
    rng = np.random.default_rng(fold)
    parts = [rng.permutation(others[images.truth[others] == number])[:per_class] for number in range(len(CLASSES))]
    return np.sort(np.concatenate(parts))


def staged(images: RealImages, index: int) -> str:
    """Where image ``index`` lies in a workspace: its class and a name that no other image has."""
    return f"data/real/{CLASSES[images.truth[index]]}/{index:05d}_{images.paths[index].name}"


def prepare(workspace: Path, images: RealImages, training: NDArray[np.int64], content: dict[str, Any]) -> None:
    """Lay parameters and real images into an empty ``workspace``; fresh rendered images are shared by all."""
    shutil.rmtree(workspace, ignore_errors=True)
    (workspace / KEPT).parent.mkdir(parents=True)
    (workspace / KEPT).symlink_to(Path("../../fresh"), target_is_directory=True)
    (workspace / "data/real").mkdir(parents=True)
    for index in training:
        place = workspace / staged(images, index)
        place.parent.mkdir(exist_ok=True)  # a class without real images has no folder, and is rendered
        shutil.copyfile(images.paths[index], place)
    with replacing(workspace / PARAMS) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False))


def identities(code: str, files: Sequence[tuple[str, str]], content: dict[str, Any], part: str = "") -> dict[str, str]:
    """For each stage, a hash of all that its results depend on: code, real images, parameters of it and those before.

    Args:
        code: hash of the code.
        files: place and hash of each real image that trains.
        content: parameters, block → key → value.
        part: name in `benchmarks.altered` of what is altered, if anything.
    """
    digest = hashlib.sha256(json.dumps([code, files, content["base"]]).encode())
    hashes, start = {}, starts(content)
    for stage in STAGES:
        block = content.get(stage, {})
        changed_part = altered.identity(part) if stage in altered.STAGES else []
        digest.update(json.dumps([stage, block, start.get(stage, ""), *changed_part]).encode())
        hashes[stage] = digest.hexdigest()[:16]
    return hashes


def take_over(workspace: Path, stage: str, identity: str) -> bool:
    """Copy the results of ``stage`` from another workspace that ran it with the same ``identity``, if there is one."""
    for marker in sorted(SCRATCH.glob(f"*/.finished_{stage}")):
        if marker.read_text() == identity:
            shutil.rmtree(workspace / STAGES[stage], ignore_errors=True)  # half of it, where this was killed
            shutil.copytree(marker.parent / STAGES[stage], workspace / STAGES[stage], copy_function=os.link)
            print(f"{workspace.name}: {stage} taken over from {marker.parent.name}", flush=True)
            return True
    return False


class Children:
    """Processes that end with the benchmark."""

    def __init__(self) -> None:
        """None runs yet."""
        self._lock, self._stopped = threading.Lock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, command: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
        """Run ``command`` in ``folder`` to its end; its exit code.

        Raises:
            UserError: `stop` was called before.
        """
        with self._lock:
            if self._stopped:
                raise UserError("stopped, since another fold failed")
            process = subprocess.Popen(command, cwd=folder, env=environment)
            self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        return code

    def stop(self) -> None:
        """End what runs, and let nothing start any more."""
        with self._lock:
            self._stopped = True
        for process in list(self._running):
            process.terminate()
            process.wait()


def run_stages(workspace: Path, code: str, wanted: dict[str, str], children: Children, part: str = "") -> None:
    """Run those stages in ``workspace`` that no workspace has run with the identities that are ``wanted``.

    Where a ``part`` of `benchmarks.altered` is named, its stages run with it.

    Raises:
        UserError: a stage failed (its own words are on the screen), or the code is no longer that of the hash ``code``.
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    altered_by = altered.identity(part)
    for stage, identity in wanted.items():
        finished = workspace / f".finished_{stage}"
        if finished.exists():
            continue
        if take_over(workspace, stage, identity):
            mark(finished, identity)
            continue
        print(f"{workspace.name}: {stage}", flush=True)
        program = ["benchmarks.altered", part, stage] if part and stage in altered.STAGES else [f"stages.{stage}"]
        if children.run([sys.executable, "-m", *program], workspace, environment):
            raise UserError(f"stage {stage} failed in {workspace}; what it said stands above")
        require_code(code)
        if altered.identity(part) != altered_by:
            raise UserError("benchmarks/altered.py changed during the run: start it again")
        mark(finished, identity)


def mark(path: Path, identity: str) -> None:
    """Note that a stage has ended with ``identity``."""
    with replacing(path) as temporary:
        temporary.write_text(identity)


def answers(workspace: Path, paths: Sequence[Path], threads: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities ``[N, 8]`` of teacher, FP32 and INT8 file for the images at ``paths``."""
    grays = [Image.fromarray(to_pixels(open_gray(path))) for path in paths]
    taught = run_teacher(workspace / "models/teacher/model.safetensors", grays)
    files = {name: workspace / f"models/edge/student_{name}.onnx" for name in MODELS[1:]}
    students = {name: probabilities(path, paths, threads) for name, path in files.items()}
    return {"teacher": softmax(taught.astype(np.float64), axis=1)} | students


def interval(
    images: RealImages, rows: NDArray[np.int64], hits: NDArray[np.float64], by_class: bool = True
) -> list[float]:
    """95 % interval of the mean over folds of the class-wise means of ``hits``, by resampling within fold and class.

    Near-duplicates are no further evidence, so that whole groups are drawn. What another training would give differs
    more: the interval is of one.

    Args:
        images: the collection.
        rows: indices of the images that were scored.
        hits: a figure for each of them: 1 where a model is right and 0 where it errs gives the interval of the mean
            class accuracy, the difference of two models that of how much better one is.
        by_class: whether classes weigh the same, or images.
    """
    rng, means = np.random.default_rng(0), []
    truth = images.truth[rows] if by_class else np.zeros(len(rows), np.int64)
    for fold in np.unique(images.fold[rows]):
        inside = images.fold[rows] == fold
        _, first, group = np.unique(images.group[rows][inside], return_index=True, return_inverse=True)
        counts, sums = np.zeros((2, len(first), truth.max() + 1))
        np.add.at(counts, (group, truth[inside]), 1)
        np.add.at(sums, (group, truth[inside]), hits[inside])
        drawn = _resampled(images.truth[rows][inside][first], rng)
        seen = drawn @ counts
        shares = np.divide(drawn @ sums, seen, out=np.full(seen.shape, np.nan), where=seen > 0)
        means.append(np.nanmean(shares, axis=1))
    return [float(bound) for bound in np.percentile(np.mean(means, axis=0), [2.5, 97.5])]


def _resampled(classes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """How often each of the groups of these ``classes [G]`` is drawn, ``[RESAMPLES, G]``; a class keeps its number."""
    drawn = np.zeros((RESAMPLES, len(classes)), np.int64)
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        drawn[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), RESAMPLES)
    return drawn


def figures_of(images: RealImages, said: dict[int, dict[str, NDArray[np.float64]]]) -> dict[str, Any]:
    """Means over the folds of ``said`` (fold → model → probabilities), each fold's own figures, errors of INT8."""
    figures: dict[str, Any] = {}
    rows = np.concatenate([np.flatnonzero(images.fold == fold) for fold in said])
    truth, folds = images.truth[rows], images.fold[rows]
    for model in MODELS:
        predicted = np.concatenate([said[fold][model].argmax(axis=1) for fold in said])
        hits = (truth == predicted).astype(float)
        own = [confusion_matrix(truth[folds == fold], predicted[folds == fold], len(CLASSES)) for fold in said]
        accuracies = [float(np.trace(confusion) / confusion.sum()) for confusion in own]
        by_class = [float(mean_class_accuracy(confusion) or 0.0) for confusion in own]
        whole_confusion = np.sum(own, axis=0)
        figures |= {
            f"{model}_mean_class_accuracy": float(np.mean(by_class)),
            f"{model}_accuracy": float(np.mean(accuracies)),
            f"{model}_accuracy_interval": interval(images, rows, hits, by_class=False),
            f"{model}_mean_class_accuracy_interval": interval(images, rows, hits),
            f"{model}_folds": [
                {"fold": fold, "accuracy": one, "mean_class_accuracy": other, "images": int((folds == fold).sum())}
                for fold, one, other in zip(said, accuracies, by_class, strict=True)
            ],
            f"{model}_recall": dict(zip(CLASSES, recalls(whole_confusion), strict=True)),
        }
    figures["int8_confusion"] = whole_confusion.tolist()
    return figures


def show(figures: dict[str, Any]) -> None:
    """Print a table of the models, and where the INT8 file errs."""
    console = Console()
    folds = [part["fold"] for part in figures["int8_folds"]]
    table = Table("model", "accuracy", "mean class accuracy", "95 %", *(f"fold {fold}" for fold in folds))
    for model in MODELS:
        low, high = figures[f"{model}_mean_class_accuracy_interval"]
        table.add_row(
            model,
            percent(figures[f"{model}_accuracy"]),
            percent(figures[f"{model}_mean_class_accuracy"]),
            f"{percent(low)} - {percent(high)}",
            *(percent(part["mean_class_accuracy"]) for part in figures[f"{model}_folds"]),
        )
    console.print(table)
    table = Table("true \\ called", *CLASSES, "recall", title="Confusion (INT8)")
    for name, row in zip(CLASSES, figures["int8_confusion"], strict=True):
        table.add_row(name, *map(str, row), percent(figures["int8_recall"][name]))
    console.print(table)


def changed(settings: Sequence[str]) -> dict[str, Any]:
    """The parameters of ``params.yaml`` with this benchmark's split and ``settings`` (``block.key=value``) laid over.

    Raises:
        UserError: a setting is none, or a value is not allowed.
    """
    content: dict[str, Any] = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))
    content["split"] = dict(SPLIT)
    for setting in settings:
        name, _, value = setting.partition("=")
        block, _, key = name.partition(".")
        if not value or key not in content.get(block, {}):
            raise UserError(f"--set {setting}: write it as block.key=value, with a key of {PARAMS}")
        try:  # stages run in a workspace: a file must be found from there
            content[block][key] = str(Path(value).resolve()) if Path(value).is_file() else yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--set {setting}: the value cannot be read as YAML") from None
    check_params(content, PARAMS, Params)
    return content


def starts(content: dict[str, Any]) -> dict[str, str]:
    """Hash of the weights that each training stage of the parameters ``content`` starts from."""
    return {stage: weights_hash(block["model"], block["init"]) for stage, block in content.items() if "init" in block}


def recipe_of(content: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a fold's models depend on: all but those of the evaluation, which does not run."""
    return {block: values for block, values in content.items() if block != "evaluate"}


def plot(path: Path) -> None:
    """Draw mean class accuracy against the number of real images a class, from the result files there are.

    Raises:
        UserError: there are fewer than two, they are not of the same recipe, or ``path`` is no file to write.
    """
    from matplotlib import pyplot

    if path.is_dir() or not path.name:
        raise UserError(f"--plot {path}: name a file to write, such as curve.png")
    points, recipes = [], {}
    for file in sorted(RESULTS.glob("real_cv*.json")):
        if file.stem == "real_cv" or file.stem.removeprefix("real_cv_").isdecimal():
            figures = read_result(file, "real_images", "parameters")
            points.append((figures["real_images"] / len(CLASSES), figures))
            recipes[file.name] = [recipe_of(figures["parameters"]), figures.get("weights"), figures.get("code")]
    (first, recipe), *others = recipes.items() or [("", [])]
    different = [name for name, other in others if other != recipe]
    if different:
        raise UserError(
            f"{', '.join(different)} and {first} are of other parameters, weights or code: measure them again, "
            f"or delete them"
        )
    if len(points) < 2:
        raise UserError(f"{RESULTS} has {len(points)} measured point(s) of the curve: measure with --real-per-class")
    points.sort(key=lambda point: point[0])
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for model, style in (("teacher", "--"), ("int8", "-")):
        heights = np.array([figures[f"{model}_mean_class_accuracy"] for _, figures in points])
        bounds = np.array([figures[f"{model}_mean_class_accuracy_interval"] for _, figures in points]).T
        axes.errorbar(
            [number for number, _ in points], 100 * heights, 100 * np.abs(bounds - heights), ls=style, marker="o",
            capsize=3, label={"teacher": "teacher", "int8": "student, INT8 file"}[model],
        )  # fmt: skip
    axes.set(xlabel="real training images a class (mean)", ylabel="mean class accuracy on held-out folds, %")
    axes.set_xscale("symlog", linthresh=4)
    measured = [number for number, _ in points]
    axes.set_xticks(measured, [f"{number:.0f}" for number in measured])
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    print(f"written to {path}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, metavar="FOLDER", help="labelled real images, with labels.csv and its folds")
    top.add_argument("--folds", type=whole(0, 100), nargs="+", metavar="K", help="folds to hold out (default: each)")
    top.add_argument("--real-per-class", type=whole(0, 100_000), metavar="N", help="train with N real images a class")
    top.add_argument(
        "--set", action="append", default=[], metavar="BLOCK.KEY=VALUE", help="another parameter; may be given again"
    )
    top.add_argument(
        "--jobs",
        type=whole(1, 64),
        default=1,
        metavar="N",
        help="folds at a time, sharing base.threads (default: 1)",
    )
    top.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve of the results there are, and stop")
    return top


def run(options: argparse.Namespace) -> None:
    """Train, score, print, write."""
    if options.plot:
        plot(options.plot)
        return
    if not options.real:
        raise UserError("--real FOLDER is missing: the labelled real images to train and score with")
    images, content = load_real(options.real), changed(options.set)
    folds, every = folds_of(images, options.folds, options.real)
    said = measure(images, folds, options.real_per_class, content, options.jobs)
    figures = figures_of(images, said)
    figures["real_images"] = float(np.mean([len(chosen(images, fold, options.real_per_class)) for fold in folds]))
    figures |= {"parameters": content, "weights": starts(content), "code": code_hash(), "jobs": options.jobs}
    show(figures)
    limit = [] if options.real_per_class is None else [str(options.real_per_class)]
    special = [f"folds{'-'.join(map(str, folds))}"] if folds != every else []
    if options.set:
        settings = "-".join(options.set)
        short = len(settings) <= 60 and "/" not in settings
        special.append(settings if short else hashlib.sha256(settings.encode()).hexdigest()[:8])
    print(f"written to {write_result('_'.join(['real_cv', *limit, *special]), figures)}")


def measure(
    images: RealImages,
    folds: Sequence[int],
    per_class: int | None,
    content: dict[str, Any],
    jobs: int,
    part: str = "",
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Run the stages for each of ``folds``; what each model says of the fold's images.

    Args:
        images: the collection.
        folds: numbers of the folds to hold out.
        per_class: real training images a class, None for all.
        content: parameters; the jobs share ``base.threads``.
        jobs: folds at a time.
        part: name in `benchmarks.altered` of what is altered, if anything.

    Returns:
        Fold → model → probabilities ``[N, 8]``.
    """
    jobs = jobs if per_class != 0 else 1  # without real images all folds share one workspace
    content = content | {"base": content["base"] | {"threads": max(1, content["base"]["threads"] // jobs)}}
    code, children = code_hash(), Children()
    (SCRATCH / "fresh").mkdir(parents=True, exist_ok=True)
    work = (delayed(_fold)(images, fold, per_class, content, code, children, part) for fold in folds)
    try:
        with alone():
            answered = Parallel(n_jobs=jobs, backend="threading")(work)
    finally:  # killed, or one fold failed: no stage may go on in a workspace that the next run uses
        children.stop()
    return dict(zip(folds, answered, strict=True))


@contextmanager
def alone() -> Iterator[None]:
    """Hold the workspaces: two processes in one would spoil each other's.

    Raises:
        UserError: another process holds them.
    """
    with (SCRATCH / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{SCRATCH} is in use by another benchmark: wait for its end, or use a clone") from None
        yield


def folds_of(images: RealImages, asked: Sequence[int] | None, source: Path) -> tuple[list[int], list[int]]:
    """The folds that are ``asked`` for (default: each), and all there are.

    Raises:
        UserError: the collection at ``source`` has no folds, or not those.
    """
    every = sorted(set(images.fold.tolist()))
    if every[0] < 0:
        raise UserError(f"{source}/labels.csv has no column fold with numbers from 0: near-duplicates belong in one")
    if len(every) < 2:
        raise UserError(f"{source}/labels.csv has one fold only: nothing would be left to train on")
    folds = sorted(set(asked or every))
    if not set(folds) <= set(every):
        raise UserError(f"--folds {' '.join(map(str, folds))}: the collection has the folds {every[0]}-{every[-1]}")
    return folds, every


def _fold(
    images: RealImages,
    fold: int,
    per_class: int | None,
    content: dict[str, Any],
    code: str,
    children: Children,
    part: str,
) -> dict[str, NDArray[np.float64]]:
    """Answers for the images of a fold, from a workspace that is finished, goes on, or begins."""
    training = chosen(images, fold, per_class)
    held_out = [images.paths[index] for index in np.flatnonzero(images.fold == fold)]
    files = [(staged(images, index), file_sha256(images.paths[index])) for index in training]
    wanted = identities(code, files, content, part)
    identity = list(wanted.values())[-1]
    workspace = SCRATCH / (f"fold{fold}_{identity}" if len(training) else f"rendered_{identity}")
    if not (workspace / PARAMS).is_file():
        prepare(workspace, images, training, content)
    run_stages(workspace, code, wanted, children, part)
    return answers(workspace, held_out, content["base"]["threads"])


if __name__ == "__main__":
    run_benchmark(run, parser())
