"""The last part of a student's training: one set of weights learns to answer alike in FP32 and INT8."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from semdefect.checkpoint import Progress
from semdefect.images import ImageSet
from semdefect.losses import AgreementLoss, Loss
from semdefect.network import SemNetwork
from semdefect.params import Student
from semdefect.rounding import CALIBRATION, calibrate, set_precision
from semdefect.training import Trainer

AGREEMENT = "val/int8_agreement"


@dataclass(frozen=True)
class Bar:
    """What the validation images have to show, and how long to go on for it.

    Attributes:
        measure: of a network and images, the share of these on which its INT8 files and FP32 name the same class.
        least: the share to reach, 0..1.
        further_epochs: at most so many more than planned.
    """

    measure: Callable[[SemNetwork, ImageSet], float]
    least: float
    further_epochs: int


class AgreementTrainer(Trainer):
    """A `Trainer` that keeps the last epoch: macro-F1 does not measure the task, and would choose by an image or two.

    Where the epochs that were planned do not clear ``bar``, further ones follow until one does, and the one that comes
    nearest is kept: of a few hundred images, the number that INT8 names differently goes up and down by some between
    epochs, and files below the bar are refused.

    Attributes:
        bar: None where there is nothing to reach, or no epoch to reach it in.
    """

    bar: Bar | None = None

    def _validate(self, data: ImageSet) -> dict[str, float]:
        figures = super()._validate(data)
        if self.bar and self.order.epoch >= self.recipe.epochs - 1:
            # Measured once, for all processes: they have to go on, or end, together.
            found = [self.bar.measure(self.average.module, data) if self.accelerator.is_main_process else 0.0]
            figures[AGREEMENT] = broadcast_object_list(found)[0]
        return figures

    def _improved(self, progress: Progress) -> bool:
        if progress.epoch <= self.recipe.epochs:
            return True
        return progress.history[-1][AGREEMENT] > progress.history[progress.best_epoch - 1][AGREEMENT]

    def _goes_on(self, progress: Progress) -> bool:
        if super()._goes_on(progress):
            return True
        if not self.bar or progress.epoch >= self.recipe.epochs + self.bar.further_epochs:
            return False
        found = progress.history[-1][AGREEMENT]
        if found >= self.bar.least:
            return False
        if self.accelerator.is_main_process:
            print(
                f"{self.stage}: in INT8 and FP32 {found:.2%} of the validation images get the same class, fewer than "
                f"{self.bar.least:.2%}; a further epoch follows"
            )
        return True


def agreement_trainer(
    stage: str,
    network: SemNetwork,
    task: Loss,
    recipe: Student,
    data: ImageSet,
    accelerator: Accelerator,
    seed: int,
    renew: Callable[[int], ImageSet] | None = None,
    block: str = "distill",
    bar: Bar | None = None,
) -> AgreementTrainer:
    """An `AgreementTrainer` of ``int8_epochs`` at ``int8_learning_rate``, validated in INT8.

    A ``network`` without rounding gets it here, its ranges chosen by some images of ``data``. The other arguments are
    those of `Trainer`; ``task`` is what the network goes on to learn in FP32 meanwhile, ``block`` the block of
    parameters that ``recipe`` is, ``bar`` what its validation images have to show.
    """
    if not network.rounded:
        network.add_rounding()
        calibrate(network, data.sample(CALIBRATION, seed).pixels)
    changes = {
        "epochs": recipe.int8_epochs,
        "learning_rate": recipe.int8_learning_rate,
        "start_resolution": recipe.resolution,
    }
    part = recipe.model_copy(update=changes)
    loss, key = AgreementLoss(task, recipe.int8_weight), f"{block}.int8_learning_rate"
    trainer = AgreementTrainer(stage, network, loss, part, data, accelerator, seed, renew, key)
    if bar and bar.least and bar.further_epochs:
        trainer.bar = bar
    set_precision(trainer.average.module, "int8")  # what is validated
    return trainer
