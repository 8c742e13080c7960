"""The last part of a student's training: one set of weights learns to answer alike in FP32 and INT8."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
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
#: Weight of the labels beside the answers of a network that is already trained, in the parts of a training after the
#: first: of the student's own copy while its INT8 side learns, of the student while the fast one does. And what softens
#: these answers. No parameters, so that those of the teacher mean the teacher alone.
COPY_ALPHA, COPY_TEMPERATURE = 0.5, 2.0
#: Calibrations of the weights of an epoch that misses the bar, on as many other training images each. One takes a
#: quarter of the time of an epoch of a fold of `benchmarks.real_cv`.
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

    Where the last of the epochs that were planned does not clear ``bar``, its weights are calibrated anew, on other
    training images; then further epochs follow, each with such tries, until one clears it. What comes nearest is kept.
    Of a few hundred images, the number that INT8 names differently goes up and down by some between epochs as between
    calibrations, and files below the bar are refused.

    Attributes:
        bar: None where there is nothing to reach, or nothing may be done for it (``further_epochs`` of 0).
    """

    bar: Bar | None = None

    def _validate(self, data: ImageSet) -> dict[str, float]:
        # Rounding makes finite numbers of all others: the answers would not tell.
        self._check_finite(torch.stack([weight.detach().sum() for weight in self.average.module.parameters()]).sum())
        if not self.bar or self.order.epoch < self.recipe.epochs - 1:
            return super()._validate(data)
        agreement = self._judge(self.bar, data)
        return super()._validate(data) | {AGREEMENT: agreement}

    def _judge(self, bar: Bar, data: ImageSet) -> float:
        """The agreement that clears ``bar``, or else comes nearest; that it was found with becomes the `outcome`."""
        others = OTHER_RANGES if len(self.images) > CALIBRATION else 0  # there are no other images
        best = -1.0
        for number in range(1 + others):
            network = self._calibrated(number) if number else self.average.module
            # Measured once, for all processes: they have to go on, or end, together.
            found = broadcast_object_list([bar.measure(network, data) if self._is_main else 0.0])[0]
            if found > best:
                best, self.outcome = found, network
            if number:
                self._tell(f"calibration {number} of {others} on other training images: {found:.2%}")
            if found >= bar.least:
                break
            if not number and others:
                self._tell(f"{_missed(found, bar)}; it is calibrated on other training images")
        return best

    def _calibrated(self, number: int) -> SemNetwork:
        """A copy of the average of the weights whose scales and ranges the ``number``-th other images give."""
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
        if not self.bar or progress.history[-1][AGREEMENT] >= self.bar.least:
            return False
        further = progress.epoch < self.recipe.epochs + self.bar.further_epochs
        found = max(figures.get(AGREEMENT, 0.0) for figures in progress.history)
        self._tell(f"{_missed(found, self.bar)}, at best; {'a further epoch follows' if further else 'that is kept'}")
        return further

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def _tell(self, sentence: str) -> None:
        if self._is_main:
            print(f"{self.stage}: {sentence}", flush=True)


def _missed(found: float, bar: Bar) -> str:
    return f"{found:.2%} of the validation images get the same class in INT8 and FP32, fewer than {bar.least:.2%}"


def agreement_trainer(
    stage: str,
    network: SemNetwork,
    task: Loss,
    recipe: Student,
    data: ImageSet,
    accelerator: Accelerator,
    seed: int,
    renew: Callable[[int], ImageSet] | None = None,
    *,
    rate_key: str,
    bar: Bar | None = None,
) -> AgreementTrainer:
    """An `AgreementTrainer` of ``int8_epochs`` at ``int8_learning_rate``, validated in INT8.

    A ``network`` without rounding gets it here, its ranges chosen by some images of ``data``. The other arguments are
    those of `Trainer`; ``task`` is what the network goes on to learn in FP32 meanwhile, ``bar`` what its validation
    images have to show.
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
    loss = AgreementLoss(task, recipe.int8_weight)
    trainer = AgreementTrainer(stage, network, loss, part, data, accelerator, seed, renew, rate_key)
    if bar and bar.least and bar.further_epochs:
        trainer.bar = bar
    set_precision(trainer.average.module, "int8")  # what is validated
    return trainer
