"""Cross-validation on real images: the pipeline's own stages, the exported files, images that trained nothing.

    python -m benchmarks.real_cv --real ../shared/real_sem                        # all folds
    python -m benchmarks.real_cv --real ../shared/real_sem --folds 0              # one
    python -m benchmarks.real_cv --real ../shared/real_sem --jobs 2               # two at a time: one to two hours
    python -m benchmarks.real_cv --real ../shared/real_sem --real-per-class 16    # few real images
    python -m benchmarks.real_cv --real ../shared/real_sem --set distill.alpha=1.0
    python -m benchmarks.real_cv --plot docs/real_images.png                      # the curve, from what is measured
    python -m benchmarks.real_cv --plot curve.png --parts real_cv_32_folds0 real_cv_32_folds1

The folder has one folder a class, and five folds are drawn, in which near-duplicates stay together; or a file
labels.csv with a line path,class,fold and one such as bridge/a.png,bridge,0 for each image.
Results of other images than the committed ones need a --result of their own.
For each fold, the real images of the others are laid into data/real of a workspace, and synthesize, split,
train_teacher, distill and export_onnx run there as they would for a user. Then the FP32 and INT8 files, through the
device's code, and the teacher name the classes of the fold's images. An image whose
near-duplicate (as `synthesize` finds them) is held out does not train. Parameters are params.yaml's but for the split:
the fold is the test, so that the pipeline keeps none of its own; 15 % of the images it gets validate: they choose the
best epoch (where there are several), the calibration and how many epochs of agreement there are, and set temperature
and guard. A fold whose files export_onnx refuses, after all that distill does to avoid it
(distill.int8_further_epochs), has no score, as it would end a user's run: then nothing is written, and those of the
other folds are shown.

Killed and run again it goes on: a finished stage of the same code, data and parameters does not run again, nor do those
that another run with other parameters for later stages has finished (.scratch/real_cv; may be deleted; the bar of
export_onnx.int8_agreement is a parameter of distill too). All folds with the default parameters write
benchmarks/results/real_cv.json, or real_cv_N.json with N real images a class; anything else writes beside them, under a
name of its own.
"""

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

from benchmarks.curve import plot
from benchmarks.environment import (
    RESULTS,
    code_hash,
    plain_name,
    read_result,
    require_code,
    run_benchmark,
    write_result,
)
from benchmarks.fold_scores import MODELS, figures_of, show
from benchmarks.real_images import FOLDS, RealImages, collection_sha256, load_real, probabilities
from benchmarks.workspaces import (
    ROOT,
    SCRATCH,
    Children,
    RefusedError,
    alone,
    identities,
    prepare,
    run_stages,
    staged,
    starts,
)
from semdefect import CLASSES
from semdefect.edge.image import open_gray, to_pixels
from semdefect.edge.options import whole
from semdefect.errors import UserError
from semdefect.evaluation import run_teacher
from semdefect.network import file_sha256
from semdefect.params import PARAMS, Params, check_params

SPLIT = {"train": 0.85, "val": 0.15, "test": 0.0}


class RefusedFoldsError(UserError):
    """`export_onnx` refused the students of some folds.

    Attributes:
        answered: fold → model → probabilities of the others.
    """

    def __init__(self, refused: Sequence[int], answered: dict[int, dict[str, NDArray[np.float64]]]) -> None:
        """Name the folds, and how they may pass."""
        names = ", ".join(map(str, refused))
        super().__init__(
            f"export_onnx refused fold {names}, as it says above, and the result is not written: lower the bar, "
            "export_onnx.int8_agreement=0.97, or give INT8 more epochs, distill.int8_further_epochs=8 "
            "(benchmarks.real_cv takes both by --set, others from params.yaml)"
        )
        self.answered = answered


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
        if not (block and key and value):
            raise UserError(f"--set {setting}: write it as block.key=value")
        try:
            # Stages run in a workspace: a file must be found from there. `Path.is_file` raises on too long a name.
            read = str(Path(value).resolve()) if os.path.isfile(value) else yaml.safe_load(value)  # noqa: PTH113
        except yaml.YAMLError:
            raise UserError(f"--set {setting}: the value cannot be read as YAML") from None
        content.setdefault(block, {})[key] = read
    check_params(content, " ".join([PARAMS, *(f"--set {setting}" for setting in settings)]), Params)
    return content


def folds_of(images: RealImages, asked: Sequence[int] | None, source: Path) -> tuple[list[int], list[int]]:
    """The folds that are ``asked`` for (default: each), and all there are.

    Raises:
        UserError: the collection at ``source`` has no folds, or not those.
    """
    every = sorted(set(images.fold.tolist()))
    if every[0] < 0:
        raise UserError(f"{source}: no class has {FOLDS} images, so that folds cannot be drawn: add images to it")
    if len(every) < 2:
        raise UserError(f"{source}/labels.csv has one fold only: nothing would be left to train on")
    folds = sorted(set(asked or every))
    if not set(folds) <= set(every):
        there = ", ".join(map(str, every))
        raise UserError(f"--folds {' '.join(map(str, folds))}: the collection has the folds {there}")
    return folds, every


def answers(
    workspace: Path, paths: Sequence[Path], threads: int, teacher_alone: bool = False
) -> dict[str, NDArray[np.float64]]:
    """Probabilities ``[N, 8]`` of the teacher and, unless ``teacher_alone``, of FP32 and INT8 file, for ``paths``."""
    grays = [Image.fromarray(to_pixels(open_gray(path))) for path in paths]
    taught = run_teacher(workspace / "models/teacher/model.safetensors", grays)
    exported = () if teacher_alone else MODELS[1:]
    files = {name: workspace / f"models/edge/student_{name}.onnx" for name in exported}
    students = {name: probabilities(path, paths, threads) for name, path in files.items()}
    return {"teacher": softmax(taught.astype(np.float64), axis=1)} | students


def threads_each(content: dict[str, Any], jobs: int) -> int:
    """Threads of each of ``jobs`` folds at a time, which share ``base.threads``."""
    return max(1, int(content["base"]["threads"]) // jobs)


def _fold(
    images: RealImages,
    fold: int,
    per_class: int | None,
    content: dict[str, Any],
    code: str,
    children: Children,
    part: str,
    teacher_alone: bool,
) -> dict[str, NDArray[np.float64]]:
    """Answers for the images of a fold, from a workspace that is finished, goes on, or begins.

    Raises:
        RefusedError: its student was refused.
        UserError: another stage failed.
    """
    training = chosen(images, fold, per_class)
    held_out = [images.paths[index] for index in np.flatnonzero(images.fold == fold)]
    files = [(staged(images, index), file_sha256(images.paths[index])) for index in training]
    wanted = identities(code, files, content, part)
    if teacher_alone:
        wanted = dict(list(wanted.items())[: list(wanted).index("train_teacher") + 1])
    identity = list(wanted.values())[-1]
    workspace = SCRATCH / (f"fold{fold}_{identity}" if len(training) else f"rendered_{identity}")
    if not (workspace / PARAMS).is_file():
        prepare(workspace, images, training, content)
    run_stages(workspace, code, wanted, children, part)
    return answers(workspace, held_out, content["base"]["threads"], teacher_alone)


def _unless_refused(*arguments: Any) -> dict[str, NDArray[np.float64]] | None:
    try:
        return _fold(*arguments)
    except RefusedError:
        return None


def measure(
    images: RealImages,
    folds: Sequence[int],
    per_class: int | None,
    content: dict[str, Any],
    jobs: int,
    part: str = "",
    teacher_alone: bool = False,
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Run the stages for each of ``folds``; what each model says of the fold's images.

    A fold whose student is refused ends after the others, which may have taken hours.

    Args:
        images: the collection.
        folds: numbers of the folds to hold out.
        per_class: real training images a class, None for all.
        content: parameters; the jobs share ``base.threads``.
        jobs: folds at a time; 1 where ``per_class`` is 0, since all folds share one workspace then.
        part: name in `benchmarks.altered` of what is altered, if anything.
        teacher_alone: end with its training; no student is trained or answers.

    Returns:
        Fold → model → probabilities ``[N, 8]``.

    Raises:
        RefusedFoldsError: students were refused; has what the others say.
    """
    content = content | {"base": content["base"] | {"threads": threads_each(content, jobs)}}
    code, children = code_hash(), Children()
    (SCRATCH / "fresh").mkdir(parents=True, exist_ok=True)
    work = (
        delayed(_unless_refused)(images, fold, per_class, content, code, children, part, teacher_alone)
        for fold in folds
    )
    with alone():
        try:
            answered = Parallel(n_jobs=jobs, backend="threading")(work)
        finally:  # killed, or one fold failed: no stage may go on in a workspace that the next run uses
            children.stop()
    require_code(code)
    said = {fold: one for fold, one in zip(folds, answered, strict=True) if one}
    if refused := [fold for fold in folds if fold not in said]:
        raise RefusedFoldsError(refused, said)
    return said


def result_name(options: argparse.Namespace, some: Sequence[int]) -> str:
    """Name of the result of these ``options``; ``some``: the folds, where they are not all."""
    if options.result:
        return str(options.result)
    limit = [] if options.real_per_class is None else [str(options.real_per_class)]
    special = [f"folds{'-'.join(map(str, some))}"] if some else []
    if options.set:
        settings = "-".join(options.set)
        short = len(settings) <= 60 and "/" not in settings
        special.append(settings if short else hashlib.sha256(settings.encode()).hexdigest()[:8])
    return "_".join(["real_cv", *limit, *special])


def require_collection(path: Path, collection: str) -> None:
    """Stop before a run whose result would take the place of another collection's at ``path``.

    Raises:
        UserError: it would, or what is there does not say of which it is.
    """
    if path.is_file() and read_result(path).get("collection") != collection:
        raise UserError(f"{path} is of other images or does not say of which: pass --result NAME, or delete it first")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument(
        "--real", type=Path, metavar="FOLDER", help="labelled real images: class folders, or labels.csv with folds"
    )
    top.add_argument("--folds", type=whole(0, 100), nargs="+", metavar="K", help="folds to hold out (default: each)")
    top.add_argument(
        "--real-per-class", type=whole(0, 100_000), metavar="N", help="give N real images a class, 85 %% train"
    )
    top.add_argument(
        "--set", action="append", default=[], metavar="BLOCK.KEY=VALUE", help="another parameter; may be given again"
    )
    top.add_argument(
        "--jobs",
        type=whole(1, 64),
        default=1,
        metavar="N",
        help="folds at a time, at most all, sharing base.threads (default: 1)",
    )
    top.add_argument("--result", type=plain_name, metavar="NAME", help="write benchmarks/results/NAME.json instead")
    top.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve of the results there are, and stop")
    top.add_argument(
        "--parts", type=plain_name, nargs="+", default=[], metavar="NAME", help="beside --plot: results of some folds "
        "each, whose mean is a hollow point"
    )  # fmt: skip
    return top


def run(options: argparse.Namespace) -> None:
    """Train, score, print, write."""
    if options.plot:
        plot(options.plot, options.parts)
        return
    if options.parts:
        raise UserError("--parts is for the curve: pass --plot FILE too")
    if not options.real:
        raise UserError("--real FOLDER is missing: the labelled real images to train and score with")
    content = changed(options.set)
    images = load_real(options.real, content["synthesize"]["duplicate_correlation"])
    folds, every = folds_of(images, options.folds, options.real)
    name, collection = result_name(options, folds if folds != every else []), collection_sha256(images)
    require_collection(RESULTS / f"{name}.json", collection)
    # Without real images all folds share one workspace.
    jobs = min(options.jobs, len(folds)) if options.real_per_class != 0 else 1
    given = [len(chosen(images, fold, options.real_per_class)) for fold in folds]
    print(f"{', '.join(map(str, given))} real images without a near-duplicate in the fold train and validate")
    if options.real_per_class != 0 and not all(given):
        raise UserError(f"fold {folds[given.index(0)]} leaves none: mend the folds, or pass --real-per-class 0")
    try:
        said = measure(images, folds, options.real_per_class, content, jobs)
    except RefusedFoldsError as refused:
        if refused.answered:
            show(figures_of(images, refused.answered))
        raise
    figures = figures_of(images, said)
    figures["real_images"] = float(np.mean(given))
    figures |= {"parameters": content, "weights": starts(content), "code": code_hash()}
    figures |= {"collection": collection, "jobs": jobs, "threads": threads_each(content, jobs)}
    show(figures)
    print(f"written to {write_result(name, figures)}")


if __name__ == "__main__":
    run_benchmark(run, parser())
