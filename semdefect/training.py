"""The training loop of teacher and student: resumable, on any number of processes, with curves and progress bars."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from dvclive import Live
from timm.data.mixup import mixup_target
from timm.optim import create_optimizer_v2, muon
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler, TensorDataset
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.atomic import named, replacing
from semdefect.checkpoint import Checkpoint, Progress, sources_sha256
from semdefect.edge.scoring import confusion_matrix, macro_f1
from semdefect.errors import UserError
from semdefect.images import ImageSet
from semdefect.losses import Batch, Loss
from semdefect.network import SemNetwork, predict, save_network
from semdefect.params import Base, Training
from semdefect.views import random_views

WARMUP_SHARE = 0.05
#: Single batches with gradients a hundred times the usual threw the network back at the peak of the learning rate.
MAX_GRADIENT_NORM = 1.0
#: Options of timm's optimizers. Muon makes the update of each matrix orthogonal, by Newton-Schulz steps, of which three
#: do as well here as five and cost less; vectors and flat matrices (depthwise convolutions) are left to AdamW.
#: Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
OPTIMIZERS: dict[str, dict[str, Any]] = {"adamw": {"fused": True}, "muon": {"ns_steps": 3}}
# timm takes these steps in bf16 and has no option for it. Processors without instructions for bf16 emulate it, at 20 to
# 30 times the time of fp32: four fifths of a training went there (docs/experiments.md). Holds for the whole process.
muon.zeropower_via_newtonschulz = partial(muon.zeropower_via_newtonschulz, dtype=torch.float32)


class EpochOrder(Sampler[int]):
    """A random order that depends on the seed and the epoch alone, so that a resumed run draws the same one."""

    def __init__(self, count: int, seed: int) -> None:
        """Orders of ``count`` images."""
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        """Number of images."""
        return self.count

    def __iter__(self) -> Iterator[int]:
        """Indices in the order of the current epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1009 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())


def resolution_at(epoch: int, recipe: Training) -> int:
    """Working side in px of an epoch: grows in steps of 16 px from ``start_resolution`` to ``resolution``.

    The last third of the epochs, and always the last one, runs at full resolution. Source: Tan, Le,
    "EfficientNetV2: Smaller Models and Faster Training", 2021 (progressive learning).
    """
    share = epoch / max(1, round(recipe.epochs * 2 / 3))
    if share >= 1 or epoch == recipe.epochs - 1:
        return recipe.resolution
    grown = share * (recipe.resolution - recipe.start_resolution)
    return min(recipe.start_resolution + round(grown / 16) * 16, recipe.resolution)


def fingerprint(
    base: Base, recipe: Training, data: ImageSet, validation: ImageSet, accelerator: Accelerator, **others: str
) -> str:
    """Hash of what shapes a run, this package's code included: runs with equal hashes may resume each other.

    Args:
        base: the ``base`` block.
        recipe: the stage's block.
        data: training images.
        validation: validation images.
        accelerator: how many processes train, on what device and in what precision.
        others: hashes of its script and of the weights that it starts or learns from, and whatever else shapes it.
    """
    machine = [accelerator.num_processes, accelerator.device.type, accelerator.mixed_precision]
    parameters = [base.model_dump(), recipe.model_dump(), data.sha256(), validation.sha256(), machine, others]
    versions = [torch.__version__, timm.__version__]
    return hashlib.sha256(json.dumps([*parameters, *versions, sources_sha256()]).encode()).hexdigest()


class Trainer:
    """One training run of a `SemNetwork`. ``run`` trains what is left of it and saves the best epoch."""

    def __init__(
        self,
        stage: str,
        network: SemNetwork,
        loss: Loss,
        recipe: Training,
        data: ImageSet,
        accelerator: Accelerator,
        seed: int,
        renew: Callable[[int], ImageSet] | None = None,
        rate_key: str | None = None,
    ) -> None:
        """Prepare network, optimizer, schedule and order for ``recipe`` on ``data``.

        With ``renew``, every epoch trains on the images that it returns for the epoch's number, as many as ``data``
        holds, of which then only the shapes matter. ``rate_key`` is the parameter of the learning rate, for messages.
        """
        self.rate_key = rate_key or f"{stage}.learning_rate"
        self.stage, self.network, self.loss, self.recipe, self.renew = stage, network, loss, recipe, renew
        self.accelerator, self.seed, self.randomness = accelerator, seed, torch.Generator()
        self.order = EpochOrder(len(data), seed)
        batch_size = min(recipe.batch_size, len(data))
        self.images = TensorDataset(*data.tensors())
        self.batches = DataLoader(
            self.images,
            batch_size=batch_size,
            sampler=self.order,
            drop_last=True,
        )
        self.optimizer = create_optimizer_v2(
            network,
            recipe.optimizer,
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            **OPTIMIZERS[recipe.optimizer],
        )
        if batch_size % accelerator.num_processes:
            raise UserError(
                f"{stage}.batch_size is {recipe.batch_size} and must be a multiple of the {accelerator.num_processes} "
                f"processes"
            )
        self.steps = len(self.batches)
        total = self.steps * recipe.epochs
        warmup = int(total * WARMUP_SHARE)
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=total - warmup,
            warmup_t=warmup,
            warmup_prefix=True,
            t_in_epochs=False,
        )
        network.to(accelerator.device).to(memory_format=torch.channels_last)
        self.average = ModelEmaV3(network, decay=recipe.ema_decay, use_warmup=True)
        self.outcome: SemNetwork = self.average.module  # of the last epoch: what is validated, and may be kept
        self.checkpoint = Checkpoint(stage, {"network": network, "average": self.average.module}, self.optimizer)
        self.trained, self.fast_optimizer, self.loader = accelerator.prepare(network, self.optimizer, self.batches)

    def run(
        self, validation: ImageSet, model_path: Path, metrics_folder: Path, identity: str, keep: bool = False
    ) -> Progress:
        """Train, resuming a killed run of the same ``identity``; write the best epoch and the curves.

        Args:
            validation: judges each epoch, and never trains.
            model_path: where the weights of that epoch go, at the end.
            metrics_folder: DVCLive's folder for ``metrics.json`` and ``plots/``.
            identity: `fingerprint` of the run.
            keep: leave the checkpoint there, so that the same run again only writes its results; for a run that is a
                part of a longer one. The caller discards it.

        Of several machines each keeps its own checkpoint and weights, and the first writes the curves.

        Raises:
            UserError: several machines have different data, parameters or weights, or checkpoints of different epochs;
                or the loss is no number.
        """
        progress = self.checkpoint.load(identity)
        self._check_together(progress)
        best = self.checkpoint.folder / "best.safetensors"
        if progress.epoch and self.accelerator.is_main_process:
            print(f"{self.stage}: going on after epoch {self._count(progress.epoch)}")
        while self._goes_on(progress):
            figures = self._epoch(progress.epoch) | self._validate(validation)
            progress.epoch += 1
            progress.history.append(figures)
            improved = self._improved(progress)
            if improved:
                progress.best_epoch, progress.best_macro_f1 = progress.epoch, figures["val/macro_f1"]
            if self.accelerator.is_local_main_process:
                if improved:
                    save_network(self.outcome, best)
                self.checkpoint.save(progress)
            if self.accelerator.is_main_process:
                self._report(progress.epoch, figures)
            self.accelerator.wait_for_everyone()
        if self.accelerator.is_local_main_process:
            with replacing(model_path) as temporary:  # a copy: killed before the end, the run can finish again
                shutil.copyfile(best, temporary)
        if self.accelerator.is_main_process:
            write_curves(progress, metrics_folder)
        self.accelerator.wait_for_everyone()  # none throws away what another, killed now, would go on from
        if self.accelerator.is_local_main_process and not keep:
            self.checkpoint.discard()
        self.accelerator.wait_for_everyone()
        return progress

    def _check_together(self, progress: Progress) -> None:
        runs = gather_object([(progress.fingerprint, progress.epoch)])
        if len({fingerprint for fingerprint, _ in runs}) > 1:
            raise UserError(
                f"{self.stage}: the machines have different code, data, parameters or weights: let all have the same "
                f"commit, and run `dvc pull` and the stages before on each"
            )
        epochs = sorted({epoch for _, epoch in runs})
        if len(epochs) > 1:
            raise UserError(
                f"{self.checkpoint.folder} is after epoch {epochs[0]} on one machine and after {epochs[-1]} on "
                f"another; remove that folder on all of them, or copy one to the others"
            )

    def _goes_on(self, progress: Progress) -> bool:
        """Whether a further epoch follows."""
        return progress.epoch < self.recipe.epochs

    def _improved(self, progress: Progress) -> bool:
        """Whether the last epoch is better than the best before it."""
        return progress.history[-1]["val/macro_f1"] > progress.best_macro_f1

    def _count(self, epoch: int) -> str:
        planned = self.recipe.epochs
        return f"{epoch} of {planned}" if epoch <= planned else f"{epoch} ({planned} planned)"

    def _epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the data; mean training loss and accuracy."""
        self.order.epoch = epoch
        if self.renew:
            for old, new in zip(self.images.tensors, self.renew(epoch).tensors(), strict=True):
                old.copy_(new)
        self.network.resolution = resolution_at(epoch, self.recipe)
        torch.manual_seed(self.seed * 1013 + epoch)  # stochastic depth and dropout
        self.randomness.manual_seed((self.seed * 1019 + epoch) * 64 + self.accelerator.process_index)
        self.trained.train()
        total_loss, correct, seen = 0.0, 0, 0
        bar = tqdm(
            self.loader,
            desc=f"{self.stage} {self._count(epoch + 1)}",
            disable=not self.accelerator.is_main_process or None,
            leave=False,
        )
        for step, (pixels, labels, masks, known) in enumerate(bar):
            # An epoch beyond those that the schedule was made for has the learning rates of the last of them.
            self.schedule.step_update(min(epoch, self.recipe.epochs - 1) * self.steps + step)
            loss, logits = self._step(pixels, labels, masks, known)
            self.average.update(self.network, step=epoch * self.steps + step)
            total_loss += float(loss.detach()) * len(labels)
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(labels)
            if step % 10 == 0:
                bar.set_postfix(loss=f"{total_loss / seen:.3f}", accuracy=f"{correct / seen:.1%}")
        sums = torch.tensor([total_loss, correct, seen], dtype=torch.float32, device=self.accelerator.device)
        total_loss, correct, seen = self.accelerator.reduce(sums).tolist()
        return {"train/loss": total_loss / seen, "train/accuracy": correct / seen}

    def _step(self, pixels: Tensor, labels: Tensor, masks: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        views, masks = self._views(pixels, masks)
        own = self._own_share()
        if own < 1:
            views = own * views + (1 - own) * views.flip(0)
        targets = mixup_target(labels, len(CLASSES), lam=own, smoothing=self.recipe.label_smoothing)
        loss, logits = self.loss(self.trained, Batch(views, labels, targets, masks, known, own))
        self._check_finite(loss)
        self.fast_optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.trained.parameters(), MAX_GRADIENT_NORM)
        self.fast_optimizer.step()
        return loss, logits

    def _views(self, pixels: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """`random_views` of the recipe's share of the images, the others as they are."""
        views, masks = pixels.float() / 255, masks.float()
        drawn = torch.rand(len(pixels), generator=self.randomness) < self.recipe.random_views
        if drawn.any():
            drawn = drawn.to(pixels.device)
            views[drawn], masks[drawn] = random_views(pixels[drawn], masks[drawn], self.randomness)
        return views, masks

    def _own_share(self) -> float:
        """Share of each image in its view: 1, or in a batch that is mixed U(0.5, 1).

        Source: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", 2018, with α = 1.
        """
        mixed, share = torch.rand(2, generator=self.randomness).tolist()
        return 0.5 + share / 2 if mixed < self.recipe.mixup else 1.0

    def _validate(self, data: ImageSet) -> dict[str, float]:
        logits = predict(self.outcome, data.pixels)
        predicted = logits.argmax(1)
        loss = functional.cross_entropy(logits, data.labels)
        self._check_finite(loss)  # the last step of an epoch can be the one that breaks the weights
        return {
            "val/loss": float(loss),
            "val/accuracy": float((predicted == data.labels).float().mean()),
            "val/macro_f1": macro_f1(confusion_matrix(data.labels, predicted, len(CLASSES))) or 0.0,
        }

    def _check_finite(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            rate = self.recipe.learning_rate
            raise UserError(f"{self.rate_key} is {rate:g} and the loss became {loss.item()}: lower it")

    def _report(self, epoch: int, figures: dict[str, float]) -> None:
        tqdm.write(
            f"{self.stage} epoch {self._count(epoch)}: loss {figures['train/loss']:.3f}, "
            f"accuracy {figures['train/accuracy']:.1%}, validation accuracy {figures['val/accuracy']:.1%}, "
            f"macro-F1 {figures['val/macro_f1']:.3f}"
        )


def write_curves(progress: Progress, folder: Path) -> None:
    """DVCLive curves and ``metrics.json`` of a whole run, however often it was interrupted."""
    with named(folder), Live(str(folder), dvcyaml=False, save_dvc_exp=False, monitor_system=False) as live:
        for figures in progress.history:
            for name, value in figures.items():
                live.log_metric(name, round(value, 4))
            live.next_step()
        live.summary = {
            "best_epoch": progress.best_epoch,
            "best_val_macro_f1": round(progress.best_macro_f1, 4),
        }
