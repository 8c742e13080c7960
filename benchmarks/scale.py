"""What many images cost in time, storage and money, from rates measured on one machine.

    python -m benchmarks.scale                                        # the table, from benchmarks/results/*.json
    python -m benchmarks.scale --core-hour 0.012 --gb-month 0.01 --images 1e8
    python -m benchmarks.scale --measure                              # measures the rates anew, two minutes

Rates are processor time of one core for an image: drawn and written as PNG, seen once by the teacher's training, seen
once by the student's beside the teacher, classified by the exported file. They go to benchmarks/results/scale.json.
What shards and manifests take comes from benchmarks/results/shards.json, classification from edge_speed.json. Prices
are arguments, round figures of the order that clouds ask; put in your own. docs/scale.md writes the sums out.
"""

import argparse
import contextlib
import math
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.table import Table

from benchmarks.environment import RESULTS, read_result, run_benchmark, write_result
from semdefect import CLASSES
from semdefect.balance import draw_image, plan
from semdefect.device import create_accelerator
from semdefect.errors import UserError
from semdefect.images import MASK_SIZE, ImageSet
from semdefect.losses import DistillationLoss, LabelLoss, Loss
from semdefect.network import create_network
from semdefect.params import Base, Params, Training, load_params
from semdefect.training import Trainer

#: Images drawn, and batches trained on; of the training the time of none is taken off, so that it holds everything.
DRAWN, BATCHES = 240, 10
SCALES = (1e5, 1e7, 1e9)
#: Of the exported files, the one for x86 processors; the image that is timed is one of 128 px.
FILE, IMAGE = "student_w8.onnx", "128.png"
NEEDED = ("draw_ms", "png_bytes", "teacher_ms", "student_ms")


@dataclass(frozen=True)
class Rates:
    """Of one image: milliseconds of one core, and bytes."""

    draw_ms: float
    teacher_ms: float
    student_ms: float
    classify_ms: float
    png_bytes: float
    row_bytes: float
    row_memory: float
    row_ms: float
    per_shard: int


@dataclass(frozen=True)
class Prices:
    """In dollars."""

    core_hour: float
    gb_month: float
    thousand_puts: float
    thousand_gets: float


def drawing(params: Params) -> dict[str, float]:
    """Processor seconds and bytes of an image of the data set as it is configured, drawn and packed as PNG."""
    jobs = plan([], params.synthesize, params.base.seed)
    jobs = jobs[:: max(1, len(jobs) // DRAWN)]
    draw_image(jobs[0], params.synthesize.image_size)
    start = time.process_time()
    sizes = [len(draw_image(job, params.synthesize.image_size)[1]) for job in jobs]
    return {"draw_ms": (time.process_time() - start) / len(jobs) * 1000, "png_bytes": float(np.mean(sizes))}


def training(params: Params) -> dict[str, float]:
    """Processor seconds on one thread for an image that teacher and student see once, by the stages' own loop."""
    base = params.base.model_copy(update={"threads": 1, "device": "cpu"})
    teacher = create_network(params.train_teacher.model, params.train_teacher.resolution, "sem", "main")
    recipe = params.distill
    beside = DistillationLoss(teacher, recipe.alpha, recipe.temperature, recipe.cell_weight, recipe.method, False)
    taught = _trained(params.train_teacher, LabelLoss(params.train_teacher.cell_weight), base, True)
    AcceleratorState._reset_state()  # one process has one precision else, and the two stages may have different ones
    return {"teacher_ms": taught, "student_ms": _trained(recipe, beside, base, False)}


def _trained(recipe: Training, loss: Loss, base: Base, bf16_pays: bool) -> float:
    recipe = recipe.model_copy(update={"epochs": 1, "start_resolution": recipe.resolution})
    data, few = (_noise(count, recipe.resolution) for count in (BATCHES * recipe.batch_size, len(CLASSES)))
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):  # checkpoints go below the folder
        accelerator = create_accelerator(base, bf16_pays)
        network = create_network(recipe.model, recipe.resolution, "sem", "main")
        trainer = Trainer("scale", network, loss, recipe, data, accelerator, base.seed)
        start = time.process_time()
        trainer.run(few, Path("model.safetensors"), Path("metrics"), "scale")
        return (time.process_time() - start) / len(data) * 1000


def _noise(count: int, side: int) -> ImageSet:
    """Images of noise, which take as long as others."""
    pixels = torch.randint(0, 256, (count, 1, side, side), dtype=torch.uint8)
    masks = torch.zeros(count, 1, MASK_SIZE, MASK_SIZE, dtype=torch.bool)
    return ImageSet(pixels, torch.arange(count) % len(CLASSES), masks, torch.ones(count, dtype=torch.bool))


def rates() -> Rates:
    """What was measured, of the three committed files.

    Raises:
        UserError: one of them is missing or broken.
    """
    own = read_result(RESULTS / "scale.json", *NEEDED)
    shards = read_result(RESULTS / "shards.json", "manifest", "images_per_shard")
    speed = read_result(RESULTS / "edge_speed.json", "calls")
    wanted = (FILE, IMAGE, 1, 1)
    calls = [c for c in speed["calls"] if (Path(c["model"]).name, c["image"], c["threads"], c["batch"]) == wanted]
    if not calls:
        raise UserError(f"{RESULTS}/edge_speed.json has no call of {FILE} with {IMAGE} on one thread: measure it again")
    manifest = shards["manifest"]
    return Rates(
        **{key: own[key] for key in NEEDED},
        classify_ms=calls[0]["recipes"]["ours"]["whole"]["cpu_ms"],
        row_bytes=manifest["bytes_per_row"],
        row_memory=manifest["memory_bytes_per_row"],
        row_ms=manifest["cpu_seconds"] / manifest["rows"] * 1000,
        per_shard=shards["images_per_shard"],
    )


def costs(images: float, measured: Rates, prices: Prices) -> dict[str, float]:
    """Name with unit → value for so many ``images``; docs/scale.md explains each line."""

    def hours(milliseconds: float) -> float:
        return images * milliseconds / 3.6e6

    gigabytes = images * measured.png_bytes / 1e9
    views = measured.teacher_ms + measured.student_ms
    shards = images / measured.per_shard
    return {
        "draw, core hours": hours(measured.draw_ms),
        "draw, $": hours(measured.draw_ms) * prices.core_hour,
        "one epoch of teacher and student, core hours": hours(views),
        "one epoch of teacher and student, $": hours(views) * prices.core_hour,
        "draw and one epoch, days on two cores": hours(measured.draw_ms + views) / 2 / 24,
        "draw and one epoch, hours on 1000 cores": hours(measured.draw_ms + views) / 1000,
        "classify once, core hours": hours(measured.classify_ms),
        "classify once, $": hours(measured.classify_ms) * prices.core_hour,
        "PNG files, GB": gigabytes,
        "keep for a month, $": gigabytes * prices.gb_month,
        "shards": shards,
        "put one object an image, $": images / 1000 * prices.thousand_puts,
        "put shards, $": shards / 1000 * prices.thousand_puts,
        "get one object an image, once, $": images / 1000 * prices.thousand_gets,
        "get shards, once, $": shards / 1000 * prices.thousand_gets,
        "manifest, GB": images * measured.row_bytes / 1e9,
        "manifest in memory, GB": images * measured.row_memory / 1e9,
        "read the manifest, seconds": images * measured.row_ms / 1000,
        "pixels of 224 px in memory, GB": images * 224**2 / 1e9,
    }


def table(scales: list[float], measured: Rates, prices: Prices) -> Table:
    """`costs` beside each other."""
    columns = [costs(images, measured, prices) for images in scales]
    shown = Table("images", *(f"{images:,.0f}" for images in scales), title="One machine's rates, multiplied")
    for name in columns[0]:
        shown.add_row(name, *(_short(column[name]) for column in columns))
    return shown


def _short(value: float) -> str:
    """Two digits that say something, and no exponents."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value >= 0.01 else "< 0.01"


def run(options: argparse.Namespace) -> None:
    """Measure, or print."""
    if options.measure:
        params = load_params()
        figures = drawing(params) | {"image_size": params.synthesize.image_size} | training(params)
        figures["load_of_other_work"] = round(os.getloadavg()[0], 1)
        for key in NEEDED:
            print(f"{key:<18}{figures[key]:>12.4f}")
        print(f"written to {write_result('scale', figures)}")
        return
    prices = Prices(options.core_hour, options.gb_month, options.thousand_puts, options.thousand_gets)
    Console().print(table(options.images or list(SCALES), rates(), prices))


def _positive(text: str) -> float:
    """An argument's type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--measure", action="store_true", help="measure the rates, and write them")
    top.add_argument("--images", type=_positive, nargs="+", metavar="N", help="images (default: 1e5 1e7 1e9)")
    for name, price, what in (
        ("core-hour", 0.04, "$ for one core for an hour"),
        ("gb-month", 0.023, "$ for 10⁹ bytes in an object store for a month"),
        ("thousand-puts", 0.005, "$ for 1000 objects written"),
        ("thousand-gets", 0.0004, "$ for 1000 objects read"),
    ):
        top.add_argument(f"--{name}", type=_positive, default=price, metavar="$", help=f"{what} (default: %(default)s)")
    return top


if __name__ == "__main__":
    run_benchmark(run, parser())
