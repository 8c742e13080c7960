"""Run a stage of the pipeline with one part of the recipe altered that is no parameter; for `benchmarks.ablations`.

    python -m benchmarks.altered "no random views" distill        # in the folder of a params.yaml
    python -m benchmarks.altered --list

Such a part is no parameter because nobody would want to turn it; whether it earns its place is measured all the same.
"""

import argparse
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from semdefect import losses, network, training
from semdefect.checkpoint import Progress
from semdefect.params import PARAMS, load_params
from semdefect.stage import orderly


class Part(NamedTuple):
    """What is put in the place of an attribute of the package."""

    owner: Any
    name: str
    replacement: Any


def plain_views(pixels: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`random_views` that changes nothing."""
    return pixels.float() / 255, masks.float()


class ConstantRate:
    """A schedule that leaves the learning rate at its peak."""

    def __init__(self, optimizer: torch.optim.Optimizer, **_: Any) -> None:
        """Takes what the cosine takes."""

    def step_update(self, step: int) -> None:
        """Nothing changes."""


class OtherView(losses.DistillationLoss):
    """The teacher sees each image in a further random view of what the student sees."""

    def __init__(self, teacher: nn.Module, *rest: Any) -> None:
        """As its parent."""
        super().__init__(teacher, *rest)
        asked, generator = self.teacher, torch.Generator().manual_seed(0)

        def elsewhere(views: Tensor) -> Tensor:
            pixels = (255 * views).round().to(torch.uint8)
            answer: Tensor = asked(training.random_views(pixels, pixels[:, :, :1, :1] > 0, generator)[0])
            return answer

        self.teacher = elsewhere  # type: ignore[assignment]


def fixed_scale(images: Tensor) -> Tensor:
    """Pixels centred and scaled by constants, as is usual for photographs, instead of image by image."""
    return (images - 0.45) / 0.25


_RUN = training.Trainer.run


def run_and_reestimate(trainer: training.Trainer, validation: Any, model_path: Path, *rest: Any) -> Progress:
    """Train, then take the batch norm's statistics of the kept weights from one more pass over the training images."""
    progress = _RUN(trainer, validation, model_path, *rest)
    kept, generator = network.load_network(model_path), torch.Generator().manual_seed(0)
    update_bn((training.random_views(images, masks, generator)[0] for images, _, masks, _ in trainer.batches), kept)
    network.save_network(kept.eval(), model_path)
    return progress


PARTS = {
    "no random views": Part(training, "random_views", plain_views),
    "constant learning rate": Part(training, "CosineLRScheduler", ConstantRate),
    "gradients of any length": Part(training, "MAX_GRADIENT_NORM", math.inf),
    "teacher sees another view": Part(losses, "DistillationLoss", OtherView),
    "input at a fixed scale": Part(network, "standardise", fixed_scale),
    "batch norm re-estimated": Part(training.Trainer, "run", run_and_reestimate),
}
#: The stages that know of parts: data and teacher are the same for all.
STAGES = ("distill", "export_onnx")


def run_altered(part: str, stage: str) -> None:
    """Run ``stage`` on ``params.yaml`` with ``part`` of `PARTS` in place."""
    with patch.object(*PARTS[part]):
        work: Callable[[Any], None] = import_module(f"stages.{stage}").main  # imported now: it takes over what it finds
        work(load_params(PARAMS))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("part", nargs="?", choices=PARTS, metavar="PART", help="what is altered; --list names them")
    top.add_argument("stage", nargs="?", choices=STAGES, metavar="STAGE", help=", ".join(STAGES))
    top.add_argument("--list", action="store_true", help="print the parts, and stop")
    return top


def main() -> None:
    """Run what the command line asks for; one clear sentence when it cannot be done."""
    options = parser().parse_args()
    if options.list:
        print("\n".join(PARTS))
    elif not options.stage:
        parser().error("name a part and a stage")
    else:
        with orderly("run it again and it goes on after the last finished epoch"):
            run_altered(options.part, options.stage)


if __name__ == "__main__":
    main()
