"""Run a stage of the pipeline with one part of the recipe altered that params.yaml does not offer.

    python -m benchmarks.ablations --real ../shared/real_sem --only "constant learning rate"     # what it is made for
    python -m benchmarks.altered --list

`benchmarks.real_cv` runs it in a workspace of its own for each part: PART and then `distill` or `export_onnx`. Writes
what the stage writes.
"""

import argparse
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from semdefect import losses, network, training
from semdefect.checkpoint import Progress
from semdefect.errors import UserError
from semdefect.params import PARAMS, load_params
from semdefect.stage import orderly
from semdefect.startup import start_again
from stages import distill, export_onnx

#: The stages that a part may alter; data and the teacher's training are the same for all.
STAGES = {"distill": distill.main, "export_onnx": export_onnx.main}
_VIEWS, _RUN = training.random_views, training.Trainer.run


class Part(NamedTuple):
    """One part of the recipe.

    Attributes:
        meaning: what is done instead, for ``--list``.
        changes: owner, name and replacement of each attribute that it takes.
    """

    meaning: str
    changes: tuple[tuple[Any, str, Any], ...]


class ConstantRate:
    """A schedule that leaves the learning rate at its peak, from the first step."""

    def __init__(self, optimizer: torch.optim.Optimizer, **_: Any) -> None:
        """Takes what the cosine takes."""

    def step_update(self, step: int) -> None:
        """Nothing changes."""


class OtherView(losses.DistillationLoss):
    """The teacher sees the view that `two_views` drew for it."""

    drawn = torch.empty(0)

    def __init__(self, teacher: nn.Module, *rest: Any) -> None:
        """As its parent."""
        super().__init__(teacher, *rest)
        asked = self.teacher
        if getattr(teacher, "model", "").startswith("convnext"):  # not what the student's other parts learn beside
            self.teacher = lambda views: asked(OtherView.instead_of(views))  # type: ignore[assignment]

    @staticmethod
    def instead_of(views: Tensor) -> Tensor:
        """The teacher's views of the images of ``views``.

        Raises:
            UserError: not all of these are random views.
        """
        drawn, OtherView.drawn = OtherView.drawn, torch.empty(0)
        if len(drawn) != len(views):
            raise UserError("the teacher sees other views of random ones alone: set distill.random_views=1.0")
        return drawn


def two_views(pixels: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`random_views`, and another view of the same images for `OtherView`; the first is as if it were alone."""
    view = _VIEWS(pixels, masks, generator)
    ahead = torch.Generator()
    ahead.set_state(generator.get_state())  # what the next batch will draw, on other images
    OtherView.drawn, _ = _VIEWS(pixels, masks, ahead)
    return view


def fixed_scale(images: Tensor) -> Tensor:
    """Pixels centred and scaled by constants, as is usual for photographs, instead of image by image, and not cut."""
    return (images - 0.45) / 0.25


def run_and_reestimate(
    trainer: training.Trainer, validation: Any, model_path: Path, *rest: Any, **more: Any
) -> Progress:
    """Train, then take the batch norm's statistics of the kept weights from one more pass over the training images.

    Only in the first part of `distill`: the others go on from its weights with batch norm folded into the convolutions.

    Raises:
        UserError: that part starts so too, or not all that it learns from are random views, as this pass is.
    """
    if trainer.stage != "distill":
        return _RUN(trainer, validation, model_path, *rest, **more)
    if not any(isinstance(module, nn.BatchNorm2d) for module in trainer.network.modules()):
        raise UserError("the student's weights have batch norm folded into the convolutions: set distill.init=scratch")
    if trainer.recipe.random_views < 1:
        raise UserError("batch norm is re-estimated on random views: set distill.random_views=1.0")
    progress = _RUN(trainer, validation, model_path, *rest, **more)
    kept, generator = network.load_network(model_path), torch.Generator().manual_seed(0)
    update_bn((_VIEWS(images, masks, generator)[0] for images, _, masks, _ in trainer.batches), kept)
    network.save_network(kept, model_path)
    return progress


PARTS = {
    "constant learning rate": Part(
        "its peak at every step, no warm-up, no cosine; the mean rate is twice as high",
        ((training, "CosineLRScheduler", ConstantRate),),
    ),
    "gradients of any length": Part(
        f"not cut to norm {training.MAX_GRADIENT_NORM:g}", ((training, "MAX_GRADIENT_NORM", math.inf),)
    ),
    "teacher sees another view": Part(
        "an independent random view of the image that the student sees",
        ((training, "random_views", two_views), (distill, "DistillationLoss", OtherView)),
    ),
    # It alters a teacher's answers too: of use without one only.
    "input at a fixed scale": Part(
        "(x - 0.45) / 0.25 instead of zero mean and unit variance of each image",
        ((network, "standardise", fixed_scale),),
    ),
    "batch norm re-estimated": Part(
        "statistics from one more pass, in training views, after the training",
        ((training.Trainer, "run", run_and_reestimate),),
    ),
}


def identity(part: str) -> list[str]:
    """What tells results of ``part`` from others: its name and the hash of this file; empty for no part."""
    return [part, network.file_sha256(Path(__file__))] if part else []


@contextmanager
def in_place(part: str) -> Iterator[None]:
    """The package with the changes of ``part`` of `PARTS`."""
    with ExitStack() as changes:
        for change in PARTS[part].changes:
            changes.enter_context(patch.object(*change))
        yield


def run_altered(part: str, stage: str) -> None:
    """Run ``stage`` on ``params.yaml`` with ``part`` of `PARTS` in place.

    Raises:
        UserError: the folder is a DVC repository, whose models an altered run would replace.
    """
    if Path(".dvc").is_dir():
        raise UserError("an altered stage would replace this project's models: run it in a workspace, see --help")
    params = load_params(PARAMS)
    with in_place(part):
        STAGES[stage](params)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("part", nargs="?", choices=PARTS, metavar="PART", help="what is altered; --list names them")
    top.add_argument("stage", nargs="?", choices=STAGES, metavar="STAGE", help=" or ".join(STAGES))
    top.add_argument("--list", action="store_true", help="print the parts and what is done instead, and stop")
    return top


def main() -> None:
    """Run what the command line asks for; one clear sentence when it cannot be done."""
    options = parser().parse_args()
    if options.list:
        for name, part in PARTS.items():
            print(f"{name}: {part.meaning}")
    elif not options.stage:
        parser().error("name a part, from --list, and a stage")
    else:
        with orderly("run it again and it goes on after the last finished epoch or stage"):
            run_altered(options.part, options.stage)


if __name__ == "__main__":
    start_again()
    main()
