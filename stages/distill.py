"""Distil the teacher into the student, a timm MobileNetV3 that fits an edge CPU.

    dvc repro distill
    dvc exp run -S distill.temperature=4
    dvc exp run -S distill.alpha=1.0            # the control: the same training without a teacher

Three parts: first the student learns from labels and teacher, then, beside a copy of itself, to answer alike in FP32
and INT8, of each part the best epoch by validation macro-F1; last a small head learns which images are unlike all of
these. Reads data/splits/{train,val}.csv and models/teacher/; writes models/student/model.safetensors and
metrics/distill/. Killed at any time and run again, it resumes after the last finished epoch.
"""

from pathlib import Path

from accelerate import Accelerator

from semdefect.agreement import agreement_trainer
from semdefect.checkpoint import SCRATCH
from semdefect.device import create_accelerator, use_bf16
from semdefect.images import ImageSet
from semdefect.losses import DistillationLoss
from semdefect.network import (
    check_architecture,
    create_network,
    file_sha256,
    load_network,
    save_network,
    weights_hash,
)
from semdefect.params import Base, Distill, Params
from semdefect.seeds import STUDENT
from semdefect.stage import run_stage
from semdefect.training import Trainer, fingerprint
from semdefect.training_data import training_images, validation_images
from semdefect.unknown import learn_unknown

TEACHER_MODEL = Path("models/teacher/model.safetensors")
MODEL = Path("models/student/model.safetensors")
METRICS = Path("metrics/distill")
#: The student after the first part, and after the second.
TAUGHT, AGREEING = SCRATCH / "taught/student.safetensors", SCRATCH / "taught/student_int8.safetensors"


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
    last = agree(recipe, base, data, validation, accelerator)
    if accelerator.is_main_process:
        student = load_network(AGREEING)
        learn_unknown(student.to(accelerator.device), data, base.seed)
        save_network(student, MODEL)
        for part, file in ((trainer, TAUGHT), (last, AGREEING)):
            part.checkpoint.discard()
            file.unlink()


def agree(recipe: Distill, base: Base, data: ImageSet, validation: ImageSet, accelerator: Accelerator) -> Trainer:
    """The second part: train `TAUGHT` on to `AGREEING`, beside a copy of itself, until INT8 answers as FP32 does."""
    copy = load_network(TAUGHT).to(accelerator.device)
    task = DistillationLoss(copy, recipe.alpha, recipe.temperature, recipe.cell_weight)
    trainer = agreement_trainer("distill_int8", load_network(TAUGHT), task, recipe, data, accelerator, base.seed)
    identity = fingerprint(base, recipe, data, validation, start=file_sha256(TAUGHT))
    trainer.run(validation, AGREEING, METRICS / "int8", identity, keep=True)
    return trainer


if __name__ == "__main__":
    run_stage(main, __doc__)
