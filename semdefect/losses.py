"""The two training tasks: learn from labels, and learn from labels and a teacher."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class LabelLoss:
    """Cross-entropy against (possibly soft) label targets."""

    def __call__(self, network: nn.Module, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and logits ``[N, C]`` for ``views [N, 1, H, W]`` and ``targets [N, C]``."""
        logits = network(views).float()
        return functional.cross_entropy(logits, targets), logits


class DistillationLoss:
    """``alpha · CE + (1 − alpha) · T² · KL(teacher ‖ student)``; both networks see the same view.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; ``batchmean`` gives the
    KL divergence its mathematical mean over images, T² keeps its gradient independent of the temperature.
    """

    def __init__(self, teacher: nn.Module, alpha: float, temperature: float) -> None:
        """``alpha`` in [0, 1] weighs the labels (1: the teacher is never asked); ``temperature`` > 0."""
        self.teacher, self.alpha, self.temperature = teacher.eval(), alpha, temperature

    def __call__(self, network: nn.Module, views: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (a scalar) and student logits ``[N, C]`` for ``views [N, 1, H, W]`` and ``targets [N, C]``."""
        logits = network(views).float()
        hard = functional.cross_entropy(logits, targets)
        if self.alpha == 1:
            return hard, logits
        with torch.no_grad():
            taught = self.teacher(views).float()
        return self.alpha * hard + (1 - self.alpha) * self.soft(logits, taught), logits

    def soft(self, logits: Tensor, taught: Tensor) -> Tensor:
        """``T² · KL`` between the tempered distributions of two logit batches ``[N, C]``."""
        t = self.temperature
        student = functional.log_softmax(logits / t, dim=1)
        teacher = functional.log_softmax(taught / t, dim=1)
        return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * t**2
