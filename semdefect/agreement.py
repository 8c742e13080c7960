"""The last part of a student's training: one set of weights learns to answer alike in FP32 and INT8."""

from collections.abc import Callable

from accelerate import Accelerator

from semdefect.images import ImageSet
from semdefect.losses import AgreementLoss, Loss
from semdefect.network import SemNetwork
from semdefect.params import Student
from semdefect.rounding import CALIBRATION, calibrate, set_precision
from semdefect.training import Trainer


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
) -> Trainer:
    """A `Trainer` of ``int8_epochs`` at ``int8_learning_rate``, validated in INT8, that keeps the last epoch.

    The task is agreement, which macro-F1 does not measure: it would choose by an image or two.

    A ``network`` without rounding gets it here, its ranges chosen by some images of ``data``. The other arguments are
    those of `Trainer`; ``task`` is what the network goes on to learn in FP32 meanwhile, ``block`` the block of
    parameters that ``recipe`` is.
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
    trainer = Trainer(stage, network, loss, part, data, accelerator, seed, renew, key)
    trainer.keeps_last = True
    set_precision(trainer.average.module, "int8")  # what is validated
    return trainer
