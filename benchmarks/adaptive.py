"""What adaptive inference gives: images a second and accuracy of the two files in turn, beside the full one alone.

    python -m benchmarks.adaptive --real ../shared/real_sem                  # five minutes on two cores

Needs the data and models of `dvc repro`. On the clean and the noisy test images and on labelled real ones, as files,
through the device's own stream of images; all ways take turns, some images each, and the first turn is not timed. All
images come several times, and of what a way took for the same ones the median counts. The fast file and INT8 alone are
timed beside them, and the fast file before INT8 too, which is what `semdefect classify --adaptive` does unless told
otherwise.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.environment import run_benchmark, write_result
from benchmarks.real_images import load_real
from semdefect.edge.adaptive import AdaptiveClassifier
from semdefect.edge.classifier import Classifier, EdgeClassifier, Failure, Prediction
from semdefect.edge.image import open_gray, to_pixels
from semdefect.edge.options import whole
from semdefect.edge.session import MAX_THREADS
from semdefect.errors import UserError
from semdefect.evaluation import FAST, SPARED, TestSet, load_test_sets
from semdefect.manifest import SPLITS, read_manifest
from semdefect.params import load_params

EDGE = Path("models/edge")
#: Images a turn, and how often all of them come.
TURN, PASSES = 40, 7


@dataclass
class Way:
    """One way to classify, with what it said and how long its turns took; compared with the way named ``beside``."""

    classifier: Classifier
    beside: str = "full"
    said: list[Prediction] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def take(self, images: Sequence[Path] | Sequence[Image.Image]) -> None:
        """One turn, on files or on decoded images.

        Raises:
            UserError: an image cannot be read.
        """
        begin = perf_counter()
        results: list[Prediction | Failure] = []
        if isinstance(images[0], Path):
            results += self.classifier.classify_many(image for image in images if isinstance(image, Path))
        else:
            results += map(self.classifier.classify, images)
        self.seconds.append(perf_counter() - begin)
        for result in results:
            if isinstance(result, Failure):
                raise UserError(result.error)
            self.said.append(result)

    def time_of_all(self) -> float:
        """Seconds for all images: the sum over turns of the median over passes, so that a slow turn does not count."""
        return float(np.median(np.reshape(self.seconds, (PASSES, -1)), axis=0).sum())

    def accuracy(self, truth: NDArray[np.int64]) -> float:
        """Share of right answers."""
        names = self.classifier.classes
        return float(np.mean([names.index(one.label) == number for one, number in zip(self.said, truth, strict=True)]))


def compare(
    ways: dict[str, Way], images: Sequence[Path] | Sequence[Image.Image], truth: NDArray[np.int64]
) -> dict[str, Any]:
    """Let ``ways`` take turns on ``images`` of classes ``truth [N]``; the figures of each.

    Keys of each: ``images_per_second`` (see `Way.time_of_all`), ``accuracy``, ``escalated`` (share of images for which
    the full model answered) and ``times_as_fast`` as the way that it is ``beside``.
    """
    for way in ways.values():
        way.take(images[:TURN])
        way.said, way.seconds = [], []
    for number, start in product(range(PASSES), range(0, len(images), TURN)):
        order = list(ways.values())[:: 1 if (number + start // TURN) % 2 else -1]
        for way in order:
            way.take(images[start : start + TURN])
    return {
        name: {
            "images_per_second": len(images) / way.time_of_all(),
            "accuracy": way.accuracy(np.tile(truth, PASSES)),
            "escalated": float(np.mean([one.escalated for one in way.said])),
            "times_as_fast": ways[way.beside].time_of_all() / way.time_of_all(),
        }
        for name, way in ways.items()
    }


def measure(paths: Sequence[Path], truth: NDArray[np.int64], threads: int) -> dict[str, Any]:
    """`compare` of the full file, the fast one, INT8, and the fast one before each, on ``threads`` threads.

    ``files``: PNG files through the stream that decodes ahead; ``decoded``: images that are in memory, one by one.
    """
    names = {"full": SPARED, "fast": FAST, "int8": "student_int8"}
    files = {name: EdgeClassifier(EDGE / f"{file}.onnx", threads) for name, file in names.items()}
    pairs = {"adaptive": "full", "adaptive_int8": "int8"}
    decoded = [Image.fromarray(to_pixels(open_gray(path))) for path in paths]
    both: dict[str, Sequence[Path] | Sequence[Image.Image]] = {"files": paths, "decoded": decoded}
    found = {}
    for kind, images in both.items():
        ways = {name: Way(file) for name, file in files.items()}
        ways |= {name: Way(AdaptiveClassifier(files["fast"], files[full]), full) for name, full in pairs.items()}
        found[kind] = compare(ways, images, truth)
    return found


def written(images: TestSet, folder: Path) -> list[Path]:
    """The images as PNG files in ``folder``."""
    folder.mkdir()
    paths = [folder / f"{number:05d}.png" for number in range(len(images.images))]
    for path, image in zip(paths, images.images, strict=True):
        image.save(path)
    return paths


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What is printed of set → kind of images → way → figures."""
    for name, kinds in found.items():
        for kind, ways in kinds.items():
            for way, row in ways.items():
                speed = f"{row['images_per_second']:6.0f} images/s  {row['times_as_fast']:.2f} times as fast"
                rest = f"accuracy {row['accuracy']:.1%}  escalated {row['escalated']:.1%}"
                yield f"{name:<6} {kind:<8} {way:<14}{speed}  {rest}"


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    params = load_params()
    wanted = params.evaluate.model_copy(update={"fresh_per_class": 0})
    sets = load_test_sets(read_manifest(SPLITS / "test.csv"), wanted, params.base.seed)
    real = load_real(options.real)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("clean", "noisy"):
            found[name] = measure(written(sets[name], Path(scratch) / name), sets[name].truth, options.threads)
        # In an order that has nothing to do with class or size, so that turns are alike.
        order = np.random.default_rng(0).permutation(len(real.paths))
        found["real"] = measure([real.paths[number] for number in order], real.truth[order], options.threads)
    print("\n".join(lines(found)))
    print(f"written to {write_result('adaptive', {'threads': options.threads, 'sets': found})}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--real", type=Path, required=True, metavar="FOLDER", help="labelled collection, with labels.csv")
    top.add_argument(
        "--threads",
        type=whole(1, MAX_THREADS),
        default=1,
        metavar="N",
        help="CPU threads for the networks (default: 1)",
    )
    return top


if __name__ == "__main__":
    run_benchmark(run, parser())
