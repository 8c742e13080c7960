"""The two training tasks: learn from labels, and learn from labels and a teacher."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from semdefect import CLASSES


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        views: ``[N, 1, H, W]`` float32 in [0, 1].
        labels: class numbers ``[N]``.
        targets: soft labels ``[N, C]``.
        masks: ``[N, 1, 32, 32]`` float32 in [0, 1], where the defect lies; empty for clean images.
        known: ``[N]`` bool, whether the mask is known.
    """

    views: Tensor
    labels: Tensor
    targets: Tensor
    masks: Tensor
    known: Tensor


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
        return loss + self.cell_weight * cell_loss(cells, batch), logits


class DistillationLoss:
    """``alpha · CE + (1 − alpha) · T² · KL(teacher ‖ student)``; both networks see the same view.

    ``CE`` is `LabelLoss`, cells included. Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural
    Network", 2015; ``batchmean`` gives the KL divergence its mathematical mean over images, T² keeps its gradient
    independent of the temperature.
    """

    def __init__(
        self, teacher: nn.Module, alpha: float, temperature: float, cell_weight: float, teacher_bf16: bool = False
    ) -> None:
        """``alpha`` in [0, 1] weighs the labels (1: the teacher is never asked); ``temperature`` > 0.

        ``teacher_bf16`` lets the teacher answer in half precision, in half the time.
        """
        self.teacher_bf16 = teacher_bf16
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
        return self.alpha * hard + (1 - self.alpha) * self.soft(logits, taught), logits

    def soft(self, logits: Tensor, taught: Tensor) -> Tensor:
        """``T² · KL`` between the tempered distributions of two logit batches ``[N, C]``."""
        t = self.temperature
        student = functional.log_softmax(logits / t, dim=1)
        teacher = functional.log_softmax(taught / t, dim=1)
        return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * t**2
