"""Distil the teacher into the student, a timm MobileNetV3 that fits an edge CPU.

    dvc repro distill
    dvc exp run -S distill.temperature=4
    dvc exp run -S distill.alpha=1.0            # the control: the same training without a teacher

Two parts: first the student learns from labels and teacher, then, beside a copy of itself, to answer alike in FP32 and
INT8. Reads data/splits/{train,val}.csv and models/teacher/; writes models/student/model.safetensors, of each part the
best epoch by validation macro-F1, and metrics/distill/. Killed at any time and run again, it resumes after the last
finished epoch.
"""

from pathlib import Path

from accelerate import Accelerator

from semdefect.checkpoint import SCRATCH
from semdefect.device import create_accelerator, use_bf16
from semdefect.images import ImageSet
from semdefect.losses import AgreementLoss, DistillationLoss
from semdefect.network import check_architecture, create_network, file_sha256, load_network, weights_hash
from semdefect.params import Base, Distill, Params
from semdefect.rounding import CALIBRATION, calibrate, set_precision
from semdefect.seeds import STUDENT
from semdefect.stage import run_stage
from semdefect.training import Trainer, fingerprint
from semdefect.training_data import training_images, validation_images

TEACHER_MODEL = Path("models/teacher/model.safetensors")
MODEL = Path("models/student/model.safetensors")
METRICS = Path("metrics/distill")
#: The student between the two parts.
TAUGHT = SCRATCH / "taught/student.safetensors"


def main(params: Params) -> None:
    """Train, or go on with, the run that the parameters, the data and the teacher describe."""
    recipe, base = params.distill, params.base
    check_architecture(recipe.model, "mobilenetv3", "distill.model")
    accelerator = create_accelerator(base, bf16_pays=False)
    # The student comes before the teacher, whose making draws random numbers too.
    network = create_network(recipe.model, recipe.resolution, recipe.init, recipe.hub_revision, "distill.init")
    teacher = load_network(TEACHER_MODEL).to(accelerator.device)
    loss = DistillationLoss(
        teacher, recipe.alpha, recipe.temperature, recipe.cell_weight, recipe.method, use_bf16(base, True)
    )
    data = training_images(recipe, STUDENT, base.seed)
    trainer = Trainer("distill", network, loss, recipe, data, accelerator, base.seed)
    validation = validation_images(recipe)
    hashes = {"teacher": file_sha256(TEACHER_MODEL), "start": weights_hash(recipe.model, recipe.init)}
    identity = fingerprint(base, recipe, data, validation, **hashes)
    trainer.run(validation, TAUGHT, METRICS, identity, keep=True)
    agree(recipe, base, data, validation, accelerator)
    if accelerator.is_main_process:
        trainer.checkpoint.discard()
        TAUGHT.unlink()


def agree(recipe: Distill, base: Base, data: ImageSet, validation: ImageSet, accelerator: Accelerator) -> None:
    """The second part: train `TAUGHT` on, beside a copy of itself, until its INT8 answers as its FP32 does."""
    network, copy = load_network(TAUGHT), load_network(TAUGHT).to(accelerator.device)
    network.add_rounding()
    calibrate(network, data.sample(CALIBRATION, base.seed).pixels)
    task = DistillationLoss(copy, recipe.alpha, recipe.temperature, recipe.cell_weight)
    changes = {
        "epochs": recipe.int8_epochs,
        "learning_rate": recipe.int8_learning_rate,
        "start_resolution": recipe.resolution,
    }
    part = recipe.model_copy(update=changes)
    loss = AgreementLoss(task, recipe.int8_weight)
    trainer = Trainer("distill_int8", network, loss, part, data, accelerator, base.seed)
    set_precision(trainer.average.module, "int8")  # what is validated
    identity = fingerprint(base, part, data, validation, start=file_sha256(TAUGHT))
    trainer.run(validation, MODEL, METRICS / "int8", identity)


if __name__ == "__main__":
    run_stage(main, __doc__)
