"""Pretrain teacher, student and a larger network beside each other, for as long as a GPU is lent.

    python -m pretrain.together        # half an hour; writes over the weights of the package

All cores but two draw images without a pause; the networks learn from random views of all that were drawn, for a time
instead of a number of epochs. The larger network learns from labels and masks alone and is not kept: the other two
learn from its answers too, once it knows something. For some further minutes the student learns to answer alike in FP32
and INT8, and what is written may lie between it and the student before: agreement costs accuracy. With
``together.minutes`` of 0 this last part alone is run: the student of ``init`` agrees beside a copy of itself, and the
other two take no part. Writes semdefect/weights/<model>.safetensors, for ``init: sem``, and until then, with every
report, what there is to .scratch/together/. Another number of minutes, or another machine, gives other weights; a run
that is stopped starts over, from what the first part kept where ``init`` names that.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022 (weights between those before and after).
"""

import math
import shutil
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import joblib
import torch
from timm.data.mixup import mixup_target
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from pretrain.backbone import PARAMS, ROLES, VALIDATION, draws_before, origin_of, seed_of, write_weights
from semdefect import CLASSES
from semdefect.chunks import MASK_SIZE, render_chunk
from semdefect.device import create_accelerator, use_bf16
from semdefect.edge.digest import check_listed
from semdefect.errors import UserError
from semdefect.images import ImageSet, at_resolution
from semdefect.losses import AgreementLoss, Batch, DistillationLoss, LabelLoss, kl_loss
from semdefect.network import SEM_WEIGHTS, SemNetwork, check_architecture, create_network, predict, save_network
from semdefect.params import Base, Pretrain, Pupil, Together
from semdefect.rounding import CALIBRATION, calibrate, set_precision
from semdefect.seeds import BENCHMARK, PRETRAIN, image_seed
from semdefect.stage import run_stage
from semdefect.synthesis import RENDERER_VERSION
from semdefect.training import MAX_GRADIENT_NORM, OPTIMIZERS, WARMUP_SHARE
from semdefect.training_data import fresh_images
from semdefect.views import random_views
from semdefect.workers import in_processes

#: Where the weights of a run that is not over lie.
UNDERWAY = Path(".scratch/together")
#: Images a worker renders at a time, and how many such chunks it is given before all of them have to be in the pool:
#: joblib hands out work as fast as it is done, whether or not anybody takes the results.
_CHUNK, _ROUND = 25, 8
#: Cores left to the training and to what feeds it.
_FREE_CORES = 2
#: Images that a seed has; see `semdefect.seeds`.
_MOST = 10**7
#: Share of the time, at its end, without bf16: the average is to be of weights that small steps still move.
_EXACT = 0.1


class Pool:
    """The latest rendered images, on the device; a thread adds to them while batches are taken, until the block ends.

    Attributes:
        drawn: number of images that came in so far.
    """

    def __init__(self, recipe: Together, seed: int, device: torch.device) -> None:
        """Start to draw, from base seed ``seed``.

        Raises:
            UserError: the device has not the memory.
        """
        size, side = recipe.pool, recipe.resolution
        try:
            self.pixels = torch.empty(size, 1, side, side, dtype=torch.uint8, device=device)
            self.masks = torch.empty(size, 1, MASK_SIZE, MASK_SIZE, dtype=torch.bool, device=device)
        except RuntimeError:
            gigabytes = size * (side**2 + MASK_SIZE**2) / 1e9
            raise UserError(f"together.pool is {size}: {device} has not the {gigabytes:.0f} GB; lower it") from None
        self.labels = torch.empty(size, dtype=torch.int64, device=device)
        self.drawn, self.closed = 0, False
        self.fault: BaseException | None = None
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._fill, args=(recipe.fresh_size, seed), daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Draw no more."""
        self.closed = True
        self.thread.join()

    def take(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """``size`` images at random: pixels ``[N, 1, R, R]`` uint8, labels ``[N]``, masks ``[N, 1, 32, 32]`` bool.

        Waits until there are as many.

        Raises:
            BaseException: what has stopped the drawing.
        """
        while self.drawn < size and not self.fault:
            time.sleep(0.1)
        if self.fault:
            raise self.fault
        with self.lock:
            chosen = torch.randint(min(self.drawn, len(self.labels)), (size,), device=self.labels.device)
            return self.pixels[chosen], self.labels[chosen], self.masks[chosen]

    def _fill(self, fresh_size: int, seed: int) -> None:
        workers = max(1, joblib.cpu_count() - _FREE_CORES)  # one draws in this thread
        try:
            for first in range(0, _MOST // _CHUNK, _ROUND * workers):
                if self.closed:
                    return
                numbers = range(first, first + _ROUND * workers)
                chunks = in_processes((_drawing(number, fresh_size, seed) for number in numbers), workers)
                for number, (pixels, masks) in zip(numbers, chunks, strict=True):
                    self._add(
                        torch.from_numpy(pixels)[:, None], torch.from_numpy(masks)[:, None], number % len(CLASSES)
                    )
        except BaseException as fault:  # raised again in the thread that trains
            self.fault = fault

    def _add(self, pixels: Tensor, masks: Tensor, label: int) -> None:
        device = self.labels.device
        pixels, masks = at_resolution(pixels.to(device), self.pixels.shape[-1]), masks.to(device)
        with self.lock:
            at = (torch.arange(len(pixels), device=device) + self.drawn) % len(self.labels)
            self.pixels[at], self.masks[at], self.labels[at] = pixels, masks, label
            self.drawn += len(pixels)


def _drawing(number: int, fresh_size: int, seed: int) -> Any:
    """A call, for joblib, that renders chunk ``number``; the classes take turns."""
    seeds = [image_seed(seed, PRETRAIN, index) for index in range(number * _CHUNK, (number + 1) * _CHUNK)]
    return joblib.delayed(render_chunk)(CLASSES[number % len(CLASSES)], seeds, fresh_size, frozenset())


class Learner:
    """A network, its optimizer and the average of its weights."""

    def __init__(self, name: str, network: SemNetwork, rate: float, recipe: Together, origin: dict[str, Any]) -> None:
        """Begin to train ``network``, whose weights have the record ``origin``, at a rate of up to ``rate``."""
        network.to(memory_format=torch.channels_last)
        self.name, self.network, self.rate, self.origin, self.updates = name, network, rate, origin, 0
        self.optimizer = create_optimizer_v2(
            network, "muon", lr=self.rate, weight_decay=recipe.weight_decay, **OPTIMIZERS["muon"]
        )
        self.average = ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
        network.train()

    def learn(self, loss: Tensor, share: float) -> None:
        """One update at ``share`` of the time: the rate rises, then falls as a cosine."""
        rising = min(1.0, share / WARMUP_SHARE)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * rising * (0.5 + 0.5 * math.cos(math.pi * share))
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.average.update(self.network, step=self.updates)
        self.updates += 1

    def accuracy(self, images: ImageSet) -> float:
        """Of the average, on ``images``.

        Raises:
            UserError: its weights are no numbers any more.
        """
        logits = predict(self.average.module, images.pixels, 256)
        if not torch.isfinite(logits).all():
            raise UserError(f"together.{self.name}.learning_rate is {self.rate:g} and the weights became NaN: lower it")
        return round(float((logits.argmax(1) == images.labels).float().mean()), 4)


def learner_of(name: str, pupil: Pupil, recipe: Together, device: torch.device) -> Learner:
    """The network that ``together.<name>`` of the parameters describes, about to learn.

    Raises:
        UserError: its weights cannot be started from.
    """
    key = f"together.{name}.init"
    network = create_network(pupil.model, pupil.resolution, pupil.init, key=key)
    origin = origin_of(pupil.model, pupil.init, key)
    if network.rounded:
        raise UserError(f"{key}: these weights are set for INT8 already; start from some before that, or scratch")
    return Learner(name, network.to(device), pupil.learning_rate, recipe, origin)


class Run:
    """The networks, the images, and how far it is."""

    def __init__(self, recipe: Together, base: Base, learners: list[Learner], pool: Pool, validation: ImageSet) -> None:
        """Begin, once there are images; the first of ``learners`` teaches the others."""
        self.recipe, self.base, self.learners, self.pool, self.validation = recipe, base, learners, pool, validation
        self.views, self.reports, self.minutes, self.drawn_before = 0, 0, recipe.minutes, 0
        self.task, self.device = LabelLoss(recipe.cell_weight), pool.labels.device
        self.randomness = torch.Generator(self.device).manual_seed(base.seed)
        pool.take(recipe.batch_size)
        self.begun = time.monotonic()

    def train(self) -> list[dict[str, Any]]:
        """Until the time is over; the record of each network."""
        minutes = 0.0
        while minutes < self.minutes:
            self._step(minutes / self.minutes)
            minutes = (time.monotonic() - self.begun) / 60
            if minutes > (self.reports + 1) * self.recipe.report_minutes or minutes >= self.minutes:
                records = self._report(minutes)
        return records

    def _step(self, share: float) -> None:
        """An update of every network from the same views."""
        batch, taught = self._batch(), None
        half = use_bf16(self.base, bf16_pays=True) and share < 1 - _EXACT
        for learner in self.learners:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                loss, logits = self.task(learner.network, batch)
            if taught is not None and share > self.recipe.taught_from:
                soft = kl_loss(logits, taught, self.recipe.temperature)
                loss = self.recipe.alpha * loss + (1 - self.recipe.alpha) * soft
            if learner is self.learners[0]:
                taught = logits.detach()
            learner.learn(loss, share)

    def _batch(self) -> Batch:
        pixels, labels, masks = self.pool.take(self.recipe.batch_size)
        views, where = random_views(pixels, masks, self.randomness)
        targets = mixup_target(labels, len(CLASSES), lam=1.0, smoothing=self.recipe.label_smoothing)
        self.views += len(labels)
        return Batch(views, labels, targets, where, torch.ones_like(labels, dtype=torch.bool))

    def _report(self, minutes: float) -> list[dict[str, Any]]:
        """Say how far the networks are, and keep them as they are with their records, which it returns."""
        figures = {learner.name: learner.accuracy(self.validation) for learner in self.learners}
        said = ", ".join(f"{name} {figure:.1%}" for name, figure in figures.items())
        print(f"{minutes:.1f} min, {self.pool.drawn} images, {self.views} views: {said}", flush=True)
        records = [self._record(learner, figures) for learner in self.learners]
        for learner, record in zip(self.learners, records, strict=True):
            save_network(learner.average.module, UNDERWAY / f"{learner.name}.safetensors", record, half=True)
        self.reports += 1
        return records

    def _record(self, learner: Learner, figures: dict[str, float]) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump(),
            "base": self.base.model_dump(),
            "renderer": RENDERER_VERSION,
            "rendered_images": self.pool.drawn - self.drawn_before,
            "views": self.views,
            "real_images": 0,
            "started_from": learner.origin,
            "taught_by": self._taught_by(learner, figures),
            "validation_accuracy": figures[learner.name],
        }

    def _taught_by(self, learner: Learner, figures: dict[str, float]) -> dict[str, Any]:
        teacher = self.learners[0]
        if learner is teacher:
            return {}
        return {"model": teacher.network.model, "validation_accuracy": figures[teacher.name]}


def with_int8_side(network: SemNetwork) -> SemNetwork:
    """A copy of ``network`` that rounds, on the same device; its ranges are not chosen yet."""
    copy = deepcopy(network)
    copy.add_rounding()
    return copy.to(next(network.parameters()).device)  # what rounding adds is made on the CPU


class AgreementRun(Run):
    """The student, beside the larger network or a copy of itself, learning to answer alike in FP32 and INT8."""

    def __init__(self, before: Run, record: dict[str, Any]) -> None:
        """Go on after ``before``, with its last network, of that ``record``; images of its pool choose the ranges."""
        larger, student = before.learners[0], before.learners[-1]  # the same where it is alone
        recipe = before.recipe
        part = recipe.agreement
        network = with_int8_side(student.average.module)
        calibrate(network, before.pool.take(CALIBRATION)[0])
        self.before = deepcopy(network)
        self.taught_by = (
            record["taught_by"]
            if before.views
            else {"model": student.network.model, "validation_accuracy": student.accuracy(before.validation)}
        )
        agreeing = Learner("agreement", network, part.learning_rate, recipe, record)
        super().__init__(recipe, before.base, [agreeing], before.pool, before.validation)
        # Those that came while ranges were chosen are of this part.
        self.drawn_before = record["rendered_images"] if before.views else 0
        task = DistillationLoss(larger.average.module, recipe.alpha, recipe.temperature, recipe.cell_weight)
        self.loss, self.minutes = AgreementLoss(task, part.weight), part.minutes
        set_precision(agreeing.average.module, "int8")  # what is reported

    def _step(self, share: float) -> None:
        """An update without bf16, whose own rounding is coarser than that to 8 bits."""
        (student,) = self.learners
        student.learn(self.loss(student.network, self._batch())[0], share)

    def _taught_by(self, learner: Learner, figures: dict[str, float]) -> dict[str, Any]:
        return self.taught_by

    @torch.no_grad()
    def blended(self) -> SemNetwork:
        """The network between that before and that of now, with the ranges of both."""
        now = self.learners[0].average.module
        for old, new in zip(self.before.parameters(), now.parameters(), strict=True):
            new.copy_(old.lerp(new, self.recipe.agreement.share))
        return now


def agree(before: Run, record: dict[str, Any]) -> None:
    """Let the student of ``before``, whose weights have that ``record``, agree, and write what lies between."""
    print("the student learns to answer alike in FP32 and INT8; the accuracies that follow are those of INT8")
    run = AgreementRun(before, record)
    (record,) = run.train()
    network, student = run.blended(), run.learners[0]
    record |= {"averaged_with_start": round(1 - run.recipe.agreement.share, 4)}
    record |= {"validation_accuracy": student.accuracy(run.validation)}
    print(f"the average of before and after: {record['validation_accuracy']:.1%}")
    write_weights(network, record)


def main(params: Pretrain) -> None:
    """Train all three, write two; or the student's agreement alone."""
    check_listed(SEM_WEIGHTS)
    recipe = params.together
    if not recipe.minutes and not recipe.agreement.minutes:
        raise UserError("together.minutes and together.agreement.minutes are both 0: there is nothing to train")
    if not recipe.minutes and recipe.student.init == "scratch":
        raise UserError("together.minutes is 0 and together.student.init is scratch: name weights that know something")
    base = params.base.model_copy(update={"precision": recipe.precision})
    pupils = {"larger": recipe.larger, "teacher": recipe.teacher} if recipe.minutes else {}
    pupils |= {"student": recipe.student}
    families = {"larger": "convnext", **ROLES}
    for name, pupil in pupils.items():
        check_architecture(pupil.model, families[name], f"together.{name}.model")
    accelerator = create_accelerator(base, bf16_pays=True)
    if accelerator.num_processes > 1:
        raise UserError("pretrain.together runs in one process: start it without `accelerate launch`")
    learners = [learner_of(name, pupil, recipe, accelerator.device) for name, pupil in pupils.items()]
    if accelerator.device.type == "cuda":  # how far a run gets depends on the time of each step, so nothing is repeated
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("high")
    validation = fresh_images(VALIDATION, recipe.resolution, BENCHMARK, base.seed, size=recipe.fresh_size)
    seed = seed_of(base.seed, "student", max(draws_before(learner.origin) for learner in learners))
    with Pool(recipe, seed, accelerator.device) as pool:
        run = Run(recipe, base, learners, pool, validation)
        records = run.train() if recipe.minutes else [learners[0].origin]
        for learner, record in list(zip(learners, records, strict=True))[1:]:
            write_weights(learner.average.module, record)
        if recipe.agreement.minutes:
            agree(run, records[-1])
    shutil.rmtree(UNDERWAY)


if __name__ == "__main__":
    run_stage(main, __doc__, PARAMS, Pretrain, f"run it again; it starts over, and what there was lies in {UNDERWAY}")
