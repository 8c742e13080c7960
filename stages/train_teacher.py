"""Train the teacher, a timm ConvNeXt, on the training split and, where asked for, freshly rendered images.

    dvc repro train_teacher
    dvc exp run -S train_teacher.epochs=3
    accelerate launch --num_processes 2 --cpu -m stages.train_teacher

Reads data/splits/{train,val}.csv; writes models/teacher/model.safetensors, the best epoch by validation
macro-F1, and metrics/train_teacher/. Killed at any time and run again, it resumes after the last finished epoch.
"""

from pathlib import Path

from semdefect.device import create_accelerator
from semdefect.losses import LabelLoss
from semdefect.network import check_architecture, create_network, file_sha256, weights_hash
from semdefect.params import Params
from semdefect.seeds import TEACHER
from semdefect.stage import run_stage
from semdefect.training import Trainer, fingerprint
from semdefect.training_data import training_images, validation_images

MODEL = Path("models/teacher/model.safetensors")
METRICS = Path("metrics/train_teacher")


def main(params: Params) -> None:
    """Train, or go on with, the run that the parameters and data describe."""
    recipe, base = params.train_teacher, params.base
    check_architecture(recipe.model, "convnext", "train_teacher.model")
    check_architecture(params.distill.model, "mobilenetv3", "distill.model")  # now, not after minutes of training
    accelerator = create_accelerator(base, bf16_pays=True)
    network = create_network(recipe.model, recipe.resolution, recipe.init, recipe.hub_revision, "train_teacher.init")
    data = training_images(recipe, TEACHER, base.seed)
    trainer = Trainer("train_teacher", network, LabelLoss(recipe.cell_weight), recipe, data, accelerator, base.seed)
    validation = validation_images(recipe)
    hashes = {"start": weights_hash(recipe.model, recipe.init), "script": file_sha256(Path(__file__))}
    trainer.run(validation, MODEL, METRICS, fingerprint(base, recipe, data, validation, accelerator, **hashes))


if __name__ == "__main__":
    run_stage(main, __doc__)
