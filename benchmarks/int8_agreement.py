"""How closely the INT8 files follow FP32 on labelled real images, by the device's code.

    python -m benchmarks.int8_agreement --real ../shared/real_sem                  # half a minute on two cores

Needs the models of `dvc repro` (models/edge). What rounding costs on rendered images stands in metrics/evaluate/.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import run_benchmark, write_result
from benchmarks.real_images import load_real, probabilities
from semdefect import CLASSES
from semdefect.edge.scoring import score
from semdefect.export import FILES

EDGE = Path("models/edge")


def figures(said: dict[str, NDArray[np.float64]], truth: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy of each file, and the share of images on which it names the class that FP32 names, 0..1.

    Args:
        said: file name → probabilities ``[N, 8]``.
        truth: class numbers ``[N]``.
    """
    plain = said[FILES["fp32"]].argmax(axis=1)
    scores = {name: score(truth, rows, CLASSES) for name, rows in said.items()}
    return {
        name: {
            "agreement": float((rows.argmax(axis=1) == plain).mean()),
            "accuracy": scores[name]["accuracy"],
            "mean_class_accuracy": scores[name]["mean_class_accuracy"],
        }
        for name, rows in said.items()
    }


def run(options: argparse.Namespace) -> None:
    """Score, print, write."""
    images = load_real(options.real)
    said = {name: probabilities(EDGE / name, images.paths, threads=2) for name in FILES.values()}
    found = figures(said, images.truth)
    for name, row in found.items():
        print(f"{name}: agreement {row['agreement']:.1%}, accuracy {row['accuracy']:.1%}")
    print(f"written to {write_result('int8_agreement', {'images': len(images.paths), 'files': found})}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, required=True, metavar="FOLDER", help="labelled collection, with labels.csv")
    return top


if __name__ == "__main__":
    run_benchmark(run, parser())
