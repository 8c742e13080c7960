"""Pretraining: one network on an endless stream of rendered images, each of which is shown in three epochs only."""

import math
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from semdefect import CLASSES
from semdefect.agreement import COPY_ALPHA, COPY_TEMPERATURE, agreement_trainer
from semdefect.atomic import replacing
from semdefect.device import create_accelerator
from semdefect.edge.digest import check_listed, replace_sum
from semdefect.errors import UserError
from semdefect.images import ImageSet
from semdefect.losses import DistillationLoss
from semdefect.network import (
    SEM_WEIGHTS,
    SemNetwork,
    check_architecture,
    create_network,
    file_sha256,
    load_network,
    read_provenance,
    save_network,
    sem_weights,
    weights_hash,
)
from semdefect.params import Base, Student, Training
from semdefect.seeds import BENCHMARK, PRETRAIN
from semdefect.synthesis import RENDERER_VERSION
from semdefect.training import Loss, Trainer, fingerprint
from semdefect.training_data import fresh_images, kept_images

PARAMS = "pretrain/params.yaml"
METRICS = Path("pretrain/metrics")
#: Checkpoint in full precision, from which the weights are written.
TRAINED = Path(".scratch/pretrained")
#: Validation images a class; they only tell which epoch was the best.
VALIDATION = 150
#: The two networks, and the family of timm's models that each is of.
ROLES = {"teacher": "convnext", "student": "mobilenetv3"}
#: Epochs that show the same images, in other views, before new ones are drawn: to draw takes a quarter to a half of the
#: time of an epoch.
PASSES = 3


def seed_of(seed: int, role: str, draw: int) -> int:
    """Base seed of the images of a draw, another one for every role and draw."""
    return seed + 1 + len(ROLES) * draw + list(ROLES).index(role)


def draws_before(origin: dict[str, Any]) -> int:
    """How many draws the weights of record ``origin``, and those that they started from, have seen."""
    count = 0
    while origin:
        a_draw = origin["recipe"].get("fresh_per_class")  # a run of `pretrain.together` has none, and is one draw
        count += origin["rendered_images"] // (len(CLASSES) * a_draw) if a_draw else 1
        origin = origin.get("started_from", {})
    return count


def origin_of(model: str, init: str, key: str) -> dict[str, Any]:
    """The record of the weights that ``init``, the value of parameter ``key``, names; empty where there is none."""
    start = sem_weights(model, key) if init == "sem" else Path(init)
    return read_provenance(start) if start.is_file() else {}


def write_weights(network: SemNetwork, provenance: dict[str, Any]) -> None:
    """Put weights, in half precision, where ``init: sem`` looks for them, and their hash into the list there."""
    file = SEM_WEIGHTS / f"{network.model}.safetensors"
    with replacing(file) as unfinished:
        save_network(network, unfinished, provenance, half=True)
        replace_sum(file, file_sha256(unfinished))  # a moment before the file is there: where that is all, git has both


def pretrain(role: str, recipe: Training, base: Base, loss: Loss, helper: Path | None = None) -> None:
    """Train, or go on with, the network of ``role``; write its weights to `SEM_WEIGHTS` with a record of their origin.

    A student learns in a second part to answer alike in FP32 and INT8; its weights hold the rounding.

    Args:
        role: ``teacher`` or ``student``.
        recipe: ``fresh_per_class`` images of each class an epoch.
        base: the ``base`` block.
        loss: what it learns.
        helper: weights of a network that takes part in the loss.

    Raises:
        UserError: model, weights to start from or number of images cannot be used, or weights in `SEM_WEIGHTS` are not
            what was written.
    """
    check_listed(SEM_WEIGHTS)
    check_architecture(recipe.model, ROLES[role], f"{role}.model")
    if not recipe.fresh_per_class:
        raise UserError(f"{role}.fresh_per_class is 0: pretraining has no other images")
    accelerator = create_accelerator(base, bf16_pays=role == "teacher")
    network = create_network(recipe.model, recipe.resolution, recipe.init, recipe.hub_revision, f"{role}.init")
    origin = origin_of(recipe.model, recipe.init, f"{role}.init")  # read now: training may write to that very file
    hashes = {"start": weights_hash(recipe.model, recipe.init), "script": file_sha256(Path(__file__))}
    hashes |= {"helper": file_sha256(helper)} if helper else {}
    before = draws_before(origin)
    images = stream(role, recipe, base.seed, before, accelerator)
    validation = fresh_images(VALIDATION, recipe.resolution, BENCHMARK, base.seed, size=recipe.fresh_size)
    identity = fingerprint(base, recipe, validation, validation, accelerator, before=str(before), **hashes)
    shapes = validation.take(np.zeros(len(CLASSES) * recipe.fresh_per_class, np.int64))
    trained, epochs = TRAINED / f"{role}.safetensors", recipe.epochs
    key = f"{role}.learning_rate"
    trainer = Trainer(f"pretrain_{role}", network, loss, recipe, shapes, accelerator, base.seed, images, key)
    progress, checkpoints = trainer.run(validation, trained, METRICS / role, identity, keep=True), [trainer.checkpoint]
    if isinstance(recipe, Student):
        trainer = agreement(role, recipe, base.seed, images, load_network(trained), accelerator)
        trained, epochs = TRAINED / f"{role}_int8.safetensors", epochs + recipe.int8_epochs
        progress = trainer.run(validation, trained, METRICS / f"{role}_int8", identity, keep=True)
        checkpoints.append(trainer.checkpoint)
    if accelerator.is_main_process:
        provenance = {
            "recipe": recipe.model_dump(),
            "base": base.model_dump(),
            "renderer": RENDERER_VERSION,
            "rendered_images": len(CLASSES) * recipe.fresh_per_class * math.ceil(epochs / PASSES),
            "real_images": 0,
            "started_from": origin,
            "taught_by": read_provenance(helper) if helper else {},
            "validation_accuracy": round(progress.history[progress.best_epoch - 1]["val/accuracy"], 4),
        }
        write_weights(load_network(trained), provenance)
    accelerator.wait_for_everyone()  # none throws away what another, killed now, would go on from
    if accelerator.is_local_main_process:
        for checkpoint in checkpoints:
            checkpoint.discard()


def stream(role: str, recipe: Training, seed: int, before: int, accelerator: Accelerator) -> Callable[[int], ImageSet]:
    """The images of each epoch, by its number from 0: new ones every `PASSES` epochs.

    ``before`` draws are left out, since the weights know them. Of several processes on a machine one draws and the
    others read what it kept.
    """

    @lru_cache(maxsize=1)
    def drawn(number: int) -> ImageSet:
        wanted = (recipe.fresh_per_class, recipe.resolution, PRETRAIN, seed_of(seed, role, before + number))
        if accelerator.num_processes == 1:
            return fresh_images(*wanted, size=recipe.fresh_size)
        with accelerator.local_main_process_first():
            return kept_images(*wanted, recipe.fresh_size)

    return lambda epoch: drawn(epoch // PASSES)


def agreement(
    role: str,
    recipe: Student,
    seed: int,
    images: Callable[[int], ImageSet],
    network: SemNetwork,
    accelerator: Accelerator,
) -> Trainer:
    """The student's second part: beside a copy of itself until its INT8 answers as its FP32 does, on further images."""
    copy = deepcopy(network).to(accelerator.device)
    task = DistillationLoss(copy, COPY_ALPHA, COPY_TEMPERATURE, recipe.cell_weight)

    def later(epoch: int) -> ImageSet:
        return images(recipe.epochs + epoch)

    key = f"{role}.int8_learning_rate"
    return agreement_trainer(
        f"pretrain_{role}_int8", network, task, recipe, later(0), accelerator, seed, later, rate_key=key
    )
