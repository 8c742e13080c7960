"""The training tasks: learn from labels, from labels and a teacher, and to say the same in FP32 and INT8."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from semdefect import CLASSES
from semdefect.rounding import set_precision


class Loss(Protocol):
    """A training task."""

    def __call__(self, network: nn.Module, batch: "Batch") -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and logits ``[N, C]`` of a batch."""


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        views: ``[N, 1, H, W]`` float32 in [0, 1].
        labels: class numbers ``[N]``.
        targets: soft labels ``[N, C]``.
        masks: ``[N, 1, 32, 32]`` float32 in [0, 1], where the defect lies; empty for clean images.
        known: ``[N]`` bool, whether the mask is known.
        own: share in (0, 1] of the image itself in its view; the rest is of the image as far from the other end of the
            batch (mixup). ``targets`` are mixed already; labels and masks are the image's own.
    """

    views: Tensor
    labels: Tensor
    targets: Tensor
    masks: Tensor
    known: Tensor
    own: float = 1.0

    def reversed(self) -> "Batch":
        """The same views with labels and masks of the images that were mixed in."""
        labels, masks, known = self.labels.flip(0), self.masks.flip(0), self.known.flip(0)
        return replace(self, labels=labels, masks=masks, known=known, own=1 - self.own)


def cell_loss(cells: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each cell of ``cells [N, C, h, w]`` against the class of what lies in it; a scalar.

    A cell that the defect touches has the image's class, any other is clean. Touched and other cells of the images
    with a known mask weigh the same, however few of the first there are.
    """
    touched = functional.adaptive_max_pool2d(batch.masks, cells.shape[2:])[:, 0] > 0.25
    truth = torch.where(touched, batch.labels[:, None, None], CLASSES.index("clean"))
    known = batch.known[:, None, None]
    loss = functional.cross_entropy(cells.float(), truth, reduction="none")
    parts = [loss * part / part.sum().clamp_min(1) for part in (known & touched, known & ~touched)]
    return torch.stack([part.sum() for part in parts]).mean()


class LabelLoss:
    """Cross-entropy against the labels, and ``cell_weight`` times `cell_loss`."""

    def __init__(self, cell_weight: float) -> None:
        """``cell_weight`` >= 0."""
        self.cell_weight = cell_weight

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and logits ``[N, C]``."""
        logits, cells = network(batch.views, with_cells=True)
        logits = logits.float()
        loss = functional.cross_entropy(logits, batch.targets)
        if not self.cell_weight:
            return loss, logits
        where = batch.own * cell_loss(cells, batch)
        if batch.own < 1:
            other = batch.reversed()
            where = where + other.own * cell_loss(cells, other)
        return loss + self.cell_weight * where, logits


def kl_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """``T² · KL(teacher ‖ student)`` of the tempered distributions of two logit batches ``[N, C]``; a scalar.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; ``batchmean`` gives the KL
    divergence its mathematical mean over images, T² keeps its gradient independent of the temperature.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    teacher = functional.log_softmax(taught / temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def standardised_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """`kl_loss` of logits brought to zero mean and unit deviation image by image, so that only their shape is taught.

    Source: Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", 2024.
    """
    return kl_loss(_unit(logits), _unit(taught), temperature)


def _unit(logits: Tensor) -> Tensor:
    return (logits - logits.mean(dim=1, keepdim=True)) / logits.std(dim=1, keepdim=True).clamp_min(1e-4)


def dist_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """``2 T² ·`` (one minus correlation) of the two distributions, over classes and over images; a scalar.

    Source: Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", 2022 (DIST, both weights 2).
    """
    student, teacher = (functional.softmax(each / temperature, dim=1) for each in (logits, taught))
    between = 1 - _correlation(student, teacher).mean()
    within = 1 - _correlation(student.T, teacher.T).mean()
    return 2 * temperature**2 * (between + within)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of the rows of two matrices."""
    first, second = (each - each.mean(dim=1, keepdim=True) for each in (first, second))
    return functional.cosine_similarity(first, second, dim=1, eps=1e-6)


SOFT_LOSSES = {"kl": kl_loss, "standardised": standardised_loss, "dist": dist_loss}


class DistillationLoss:
    """``alpha · CE + (1 − alpha) · soft loss``; both networks see the same view.

    ``CE`` is `LabelLoss`, cells included.
    """

    def __init__(
        self,
        teacher: nn.Module,
        alpha: float,
        temperature: float,
        cell_weight: float,
        method: str = "kl",
        teacher_bf16: bool = False,
    ) -> None:
        """``alpha`` in [0, 1] weighs the labels (1: the teacher is never asked); ``temperature`` > 0.

        ``method`` is a key of `SOFT_LOSSES`. ``teacher_bf16`` lets the teacher answer in half precision.
        """
        self.teacher_bf16, self.soft = teacher_bf16, SOFT_LOSSES[method]
        self.teacher, self.alpha, self.temperature = teacher.eval(), alpha, temperature
        self.hard = LabelLoss(cell_weight)

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and student logits ``[N, C]``."""
        hard, logits = self.hard(network, batch)
        if self.alpha == 1:
            return hard, logits
        device = batch.views.device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=self.teacher_bf16):
            taught = self.teacher(batch.views).float()
        return self.alpha * hard + (1 - self.alpha) * self.soft(logits, taught, self.temperature), logits


class AgreementLoss:
    """Another task in FP32, and that the same weights answer alike in INT8.

    Both answers get the gradient: it moves not only INT8 towards FP32 but FP32 to where rounding matters less, which
    training INT8 alone towards a fixed FP32 does not reach (docs/experiments.md). Every second image of a batch is
    asked in INT8 too: rounding takes as long as all the rest of a step, and the task learns from each image.
    """

    def __init__(self, task: Loss, weight: float) -> None:
        """``task`` is a loss of the network in FP32; ``weight`` >= 0."""
        self.task, self.weight = task, weight

    def __call__(self, network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and FP32 logits ``[N, C]`` of a network that `semdefect.rounding.add_rounding` prepared."""
        set_precision(network, "fp32")
        loss, plain = self.task(network, batch)
        asked = plain[::2]
        set_precision(network, "int8")
        rounded = network(batch.views[::2]).float()
        set_precision(network, "fp32")
        power = asked.detach().var(dim=1).mean().clamp_min(1e-6)
        apart = (rounded - asked).square().mean() / power
        return loss + self.weight * (kl_loss(rounded, asked, 1.0) + apart), plain
