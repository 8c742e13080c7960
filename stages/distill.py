"""Distil the teacher into the student, a timm MobileNetV3 that fits an edge CPU.

    dvc repro distill
    dvc exp run -S distill.temperature=4
    dvc exp run -S distill.alpha=1.0            # the control: the same training without a teacher

Reads data/splits/{train,val}.csv and models/teacher/; writes models/student/model.safetensors, the best epoch by
validation macro-F1, and metrics/distill/. Killed at any time and run again, it resumes after the last finished
epoch.
"""

from pathlib import Path

from semdefect.device import create_accelerator, use_bf16
from semdefect.losses import DistillationLoss
from semdefect.network import check_architecture, create_network, file_sha256, load_network, weights_hash
from semdefect.params import Params
from semdefect.seeds import STUDENT
from semdefect.stage import run_stage
from semdefect.training import Trainer, fingerprint
from semdefect.training_data import training_images, validation_images

TEACHER_MODEL = Path("models/teacher/model.safetensors")
MODEL = Path("models/student/model.safetensors")
METRICS = Path("metrics/distill")


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
    trainer.run(validation, MODEL, METRICS, identity)


if __name__ == "__main__":
    run_stage(main, __doc__)
