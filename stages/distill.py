"""Distil the teacher into the student, a timm MobileNetV3 that fits an edge CPU.

    dvc repro distill
    dvc exp run -S distill.temperature=4
    dvc exp run -S distill.alpha=1.0            # the control: the same training without the teacher

Four parts: first the student learns from labels and teacher, then, beside a copy of itself, to answer alike in FP32
and INT8; then its first blocks, at a lower working side, the cheap model of adaptive inference, learn from labels and
student. Of each part the best epoch by validation macro-F1 is kept, of the second the last; where INT8 does not clear
`export_onnx.int8_agreement` by then, it is calibrated on other training images, and up to `distill.int8_further_epochs`
more follow; what comes nearest is kept. Last a small head of each learns which images are unlike all of these.
Reads data/splits/{train,val}.csv and models/teacher/; writes models/student/{model,fast}.safetensors and
metrics/distill/. Killed at any time and run again, it resumes after the last finished epoch.
"""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from accelerate import Accelerator

from semdefect.agreement import COPY_ALPHA, COPY_TEMPERATURE, Bar, agreement_trainer
from semdefect.checkpoint import SCRATCH
from semdefect.device import create_accelerator, use_bf16
from semdefect.edge.image import SIZE
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
from semdefect.rounding import Precision
from semdefect.seeds import STUDENT
from semdefect.stage import run_stage
from semdefect.training import Trainer, fingerprint
from semdefect.training_data import training_images, validation_images
from semdefect.unknown import learn_unknown
from semdefect.variants import int8_agreement

TEACHER_MODEL = Path("models/teacher/model.safetensors")
MODEL, FAST = Path("models/student/model.safetensors"), Path("models/student/fast.safetensors")
METRICS = Path("metrics/distill")
SCRIPT = file_sha256(Path(__file__))
#: The student after the first part and after the second, and the fast one after the third.
TAUGHT, AGREEING, HASTENED = (SCRATCH / f"taught/{name}.safetensors" for name in ("student", "student_int8", "fast"))


def main(params: Params) -> None:
    """Train, or go on with, the run that the parameters, the data and the teacher describe."""
    recipe, base = params.distill, params.base
    check_architecture(recipe.model, "mobilenetv3", "distill.model")
    accelerator = create_accelerator(base, bf16_pays=False)
    # The student comes before the teacher, whose making draws random numbers too.
    network = create_network(recipe.model, recipe.resolution, recipe.init, recipe.hub_revision, "distill.init")
    teacher = load_network(TEACHER_MODEL).to(accelerator.device)
    half = use_bf16(base, True)  # the teacher alone
    loss = DistillationLoss(teacher, recipe.alpha, recipe.temperature, recipe.cell_weight, recipe.method, half)
    data = training_images(recipe, STUDENT, base.seed)
    trainer = Trainer("distill", network, loss, recipe, data, accelerator, base.seed)
    validation = validation_images(recipe)
    hashes = {"teacher": file_sha256(TEACHER_MODEL), "start": weights_hash(recipe.model, recipe.init)}
    hashes |= {"teacher_bf16": str(half)}
    identity = fingerprint(base, recipe, data, validation, accelerator, script=SCRIPT, **hashes)
    trainer.run(validation, TAUGHT, METRICS, identity, keep=True)
    parts = [trainer, agree(recipe, base, data, accelerator, params.export_onnx.int8_agreement)]
    whole = training_images(recipe, STUDENT, base.seed, side=SIZE)
    parts.append(hasten(recipe, base, whole, accelerator))
    if accelerator.is_main_process:
        finish(AGREEING, MODEL, data, base.seed, accelerator, "int8")
        finish(HASTENED, FAST, whole, base.seed, accelerator, "fp32")
    accelerator.wait_for_everyone()  # none throws away what another, killed now, would go on from
    if accelerator.is_local_main_process:
        for part, file in zip(parts, (TAUGHT, AGREEING, HASTENED), strict=True):
            part.checkpoint.discard()
            file.unlink(missing_ok=True)


def agree(recipe: Distill, base: Base, data: ImageSet, accelerator: Accelerator, least: float) -> Trainer:
    """The second part: train `TAUGHT` on to `AGREEING`, beside a copy of itself, until INT8 answers as FP32 does.

    Its validation images are of the size of the device's, on which ``export_onnx`` demands an agreement of ``least``.
    """
    validation = validation_images(recipe, side=SIZE)
    copy = load_network(TAUGHT).to(accelerator.device)
    task = DistillationLoss(copy, COPY_ALPHA, COPY_TEMPERATURE, recipe.cell_weight)
    bar = Bar(partial(int8_agreement, threads=base.threads), least, recipe.int8_further_epochs)
    stage, key = "distill_int8", "distill.int8_learning_rate"
    trainer = agreement_trainer(
        stage, load_network(TAUGHT), task, recipe, data, accelerator, base.seed, rate_key=key, bar=bar
    )
    judged = {"least": str(least), "runtime": version("onnxruntime"), "script": SCRIPT}
    identity = fingerprint(base, recipe, data, validation, accelerator, start=file_sha256(TAUGHT), **judged)
    trainer.run(validation, AGREEING, METRICS / "int8", identity, keep=True)
    return trainer


def hasten(recipe: Distill, base: Base, data: ImageSet, accelerator: Accelerator) -> Trainer:
    """The third part: train the first blocks of `AGREEING` on to `HASTENED`, at ``fast_resolution``, beside `AGREEING`.

    Both see ``data`` at the size of the device's images, and resize it as they do there.
    """
    changes = {
        "epochs": recipe.fast_epochs,
        "optimizer": recipe.fast_optimizer,
        "learning_rate": recipe.fast_learning_rate,
        "resolution": recipe.fast_resolution,
        "start_resolution": recipe.fast_resolution,
    }
    part = recipe.model_copy(update=changes)
    validation = validation_images(part, side=SIZE)
    student, fast = load_network(AGREEING).to(accelerator.device), load_network(AGREEING)
    torch.manual_seed(base.seed)  # of the new head, also where a killed run goes on
    fast.shorten()
    fast.resolution = part.resolution
    loss = DistillationLoss(student, COPY_ALPHA, COPY_TEMPERATURE, part.cell_weight)
    trainer = Trainer(
        "distill_fast", fast, loss, part, data, accelerator, base.seed, None, "distill.fast_learning_rate"
    )
    identity = fingerprint(base, part, data, validation, accelerator, script=SCRIPT, start=file_sha256(AGREEING))
    trainer.run(validation, HASTENED, METRICS / "fast", identity, keep=True)
    return trainer


def finish(
    trained: Path, model: Path, data: ImageSet, seed: int, accelerator: Accelerator, precision: Precision
) -> None:
    """The fourth part: give the student in ``trained`` its score of unknown images, and write it to ``model``."""
    student = load_network(trained).to(accelerator.device)
    learn_unknown(student, data, seed, precision=precision)
    save_network(student, model)


if __name__ == "__main__":
    run_stage(main, __doc__)
