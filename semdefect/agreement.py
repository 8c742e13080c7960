"""The last part of a student's training: one set of weights learns to answer alike in FP32 and INT8."""

from collections.abc import Callable
from copy import deepcopy
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
#: Choices of ranges for the weights of an epoch that misses the bar, beside those that it was trained with. One takes
#: a quarter of the time of an epoch of a fold of `benchmarks.real_cv`.
OTHER_RANGES = 4


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

    Where the epochs that were planned do not clear ``bar``, ranges of INT8 that other training images give are tried
    with the weights of the last, then further epochs follow, and their ranges, until it is cleared. What comes nearest
    is kept. Of a few hundred images, the number that INT8 names differently goes up and down by some between epochs as
    between ranges, and files below the bar are refused.

    Attributes:
        bar: None where there is nothing to reach, or nothing may be done for it (``further_epochs`` of 0).
    """

    bar: Bar | None = None

    def _validate(self, data: ImageSet) -> dict[str, float]:
        if not self.bar or self.order.epoch < self.recipe.epochs - 1:
            return super()._validate(data)
        # Measured once, for all processes: they have to go on, or end, together.
        found = [self._best_ranges(self.bar, data) if self.accelerator.is_main_process else None]
        agreement, number = broadcast_object_list(found)[0]
        self.outcome = self._with_ranges(number)
        return super()._validate(data) | {AGREEMENT: agreement}

    def _best_ranges(self, bar: Bar, data: ImageSet) -> tuple[float, int]:
        """The agreement that clears ``bar``, or else comes nearest, and the number of the ranges that give it."""
        best = (-1.0, 0)
        for number in range(1 + OTHER_RANGES):
            found = bar.measure(self._with_ranges(number), data)
            if found > best[0]:
                best = (found, number)
            if found >= bar.least:
                break
            if not number:
                self._tell_missed(found, bar, "ranges that other training images give are tried")
        return best

    def _with_ranges(self, number: int) -> SemNetwork:
        """The average of the weights as it is for number 0, else a copy whose ranges other training images give."""
        if not number:
            return self.average.module
        network = deepcopy(self.average.module)
        calibrate(network, ImageSet(*self.images.tensors).sample(CALIBRATION, self.seed + number).pixels)
        set_precision(network, "int8")
        return network

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
            self._tell_missed(found, self.bar, "a further epoch follows")
        return True

    def _tell_missed(self, found: float, bar: Bar, next_step: str) -> None:
        print(
            f"{self.stage}: in INT8 and FP32 {found:.2%} of the validation images get the same class, fewer than "
            f"{bar.least:.2%}; {next_step}"
        )


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
