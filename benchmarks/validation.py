"""How well models name rendered images that no split and no test set holds: to choose by, as test sets must not be.

    python -m benchmarks.validation models/edge/student_int8.onnx models/edge/student_fp32.onnx     # two minutes
    python -m benchmarks.validation models/teacher/model.safetensors ../other/models/teacher/model.safetensors
    python -m benchmarks.validation A.safetensors B.safetensors --result teacher

Renders --per-class images of each class from a seed of their own, as `evaluate` does from another, corrupts a copy of
each as its *noisy* (params.yaml, evaluate.noisy), and lets each model name both: exported files through the device's
code, networks in torch. Each is compared with the model named first, on the same images. With --result the figures go
to benchmarks/results/validation_<name>.json.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.environment import plain_name, run_benchmark, write_result
from semdefect import CLASSES
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.image import SIZE
from semdefect.edge.options import whole
from semdefect.edge.table import percent
from semdefect.errors import UserError
from semdefect.evaluation import run_edge, run_teacher
from semdefect.network import file_sha256, load_network
from semdefect.params import Params, load_params
from semdefect.seeds import BENCHMARK
from semdefect.synthesis import corrupt
from semdefect.training_data import fresh_images

Images = list[Image.Image]
NETWORK, EXPORTED = ".safetensors", ".onnx"


def validation_sets(per_class: int, params: Params) -> tuple[dict[str, Images], NDArray[np.int64]]:
    """Images 224² as they are rendered and the same ones corrupted, ``[N]`` each, and the class numbers ``[N]``."""
    seed = params.base.seed
    drawn = fresh_images(per_class, SIZE, BENCHMARK, seed, size=params.synthesize.image_size)
    plain = [pixels[0].numpy() for pixels in drawn.pixels]
    strengths, bar = params.evaluate.noisy.model_dump(), tqdm(plain, desc="corrupt", disable=None, leave=False)
    noisy = [corrupt(pixels, seed=seed + index, **strengths) for index, pixels in enumerate(bar)]
    sets = {"rendered": plain, "noisy": noisy}
    return {name: [Image.fromarray(pixels) for pixels in each] for name, each in sets.items()}, drawn.labels.numpy()


def namer(model: Path, threads: int) -> Callable[[Images], NDArray[np.int64]]:
    """What names the classes ``[N]`` of images as the network or exported file ``model`` does; loads it.

    Raises:
        UserError: the file is missing, broken or neither.
    """
    if not model.is_file():
        raise UserError(f"{model} is missing: run dvc repro, or name another file")
    if model.suffix == NETWORK:
        load_network(model)  # a broken one is named before images are rendered
        return lambda images: np.asarray(run_teacher(model, images).argmax(axis=1))
    if model.suffix != EXPORTED:
        raise UserError(f"{model} ends neither in {NETWORK} nor in {EXPORTED}: name a network or an exported file")
    classifier = EdgeClassifier(model, threads)
    return lambda images: np.asarray(run_edge(classifier, images, model.stem).logits.argmax(axis=1))


def compared(said: dict[str, NDArray[np.int64]], truth: NDArray[np.int64]) -> dict[str, Any]:
    """For each model: accuracy, images gained and lost against the first, share of images named as by the first."""
    first = next(iter(said.values()))
    return {
        name: {
            "accuracy": float((own == truth).mean()),
            "gained": int(((own == truth) & (first != truth)).sum()),
            "lost": int(((own != truth) & (first == truth)).sum()),
            "agreement": float((own == first).mean()),
        }
        for name, own in said.items()
    }


def show(found: dict[str, dict[str, Any]]) -> None:
    """Print a row a set and model."""
    table = Table("images", "accuracy", "gained, lost", "same", "model")
    for name, models in found.items():
        for model, row in models.items():
            change = f"+{row['gained']}, -{row['lost']}"
            table.add_row(name, percent(row["accuracy"]), change, percent(row["agreement"]), model)
    Console().print(table)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("models", type=Path, nargs="+", metavar="FILE", help="a network (.safetensors) or exported file")
    top.add_argument("--per-class", type=whole(1, 100_000), default=250, metavar="N", help="images a class (250)")
    top.add_argument("--result", type=plain_name, metavar="NAME", help="also write validation_NAME.json in the results")
    return top


def run(options: argparse.Namespace) -> None:
    """Render, ask each model, print, write."""
    params = load_params()
    torch.set_num_threads(params.base.threads)
    models = {str(path): namer(path, params.base.threads) for path in options.models}
    sets, truth = validation_sets(options.per_class, params)
    found = {
        name: compared({model: names(images) for model, names in models.items()}, truth)
        for name, images in sets.items()
    }
    show(found)
    if options.result:
        files = {str(model): file_sha256(model) for model in options.models}
        figures = {"images": len(truth), "classes": len(CLASSES), "files": files, "sets": found}
        print(f"written to {write_result(f'validation_{options.result}', figures)}")


if __name__ == "__main__":
    run_benchmark(run, parser())
