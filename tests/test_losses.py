"""The losses against the formulas on paper, in float64 by scipy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from semdefect.losses import DistillationLoss, LabelLoss

RNG = np.random.default_rng(3)
STUDENT, TEACHER = RNG.normal(0, 2, (5, 8)), RNG.normal(0, 2, (5, 8))
TARGETS = np.eye(8)[[0, 3, 3, 7, 5]] * 0.9 + 0.1 / 8
VIEWS = torch.zeros(5, 1, 4, 4)


class Fixed(nn.Module):
    """A network that always answers with the same logits, and remembers what it saw."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.seen = []

    def forward(self, views):
        self.seen.append(views)
        return self.logits * 1


def cross_entropy(logits, targets):
    return -(targets * log_softmax(logits, axis=1)).sum(axis=1).mean()


def divergence(teacher, student, temperature):
    p = softmax(teacher / temperature, axis=1)
    q = softmax(student / temperature, axis=1)
    return (p * np.log(p / q)).sum(axis=1).mean()


def test_label_loss_is_the_mean_cross_entropy():
    loss, logits = LabelLoss()(Fixed(STUDENT), VIEWS, torch.tensor(TARGETS, dtype=torch.float32))
    assert float(loss) == pytest.approx(cross_entropy(STUDENT, TARGETS), rel=1e-5)
    assert logits.detach().numpy() == pytest.approx(STUDENT, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_weighted_sum_of_both_parts(alpha, temperature):
    task = DistillationLoss(Fixed(TEACHER), alpha, temperature)
    loss, _ = task(Fixed(STUDENT), VIEWS, torch.tensor(TARGETS, dtype=torch.float32))
    hard, soft = cross_entropy(STUDENT, TARGETS), divergence(TEACHER, STUDENT, temperature)
    assert float(loss) == pytest.approx(alpha * hard + (1 - alpha) * temperature**2 * soft, rel=1e-4)


def test_a_student_that_says_what_the_teacher_says_has_no_soft_loss():
    task = DistillationLoss(Fixed(TEACHER), 0.0, 3.0)
    loss, _ = task(Fixed(TEACHER), VIEWS, torch.tensor(TARGETS, dtype=torch.float32))
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_gradients_keep_their_size_at_high_temperatures():
    """Without T² they would fall with the square of the temperature: by 100 from 10 to 100."""

    def gradient(temperature):
        student = Fixed(STUDENT)
        task = DistillationLoss(Fixed(TEACHER), 0.0, temperature)
        task(student, VIEWS, torch.tensor(TARGETS, dtype=torch.float32))[0].backward()
        return student.logits.grad.numpy()

    # In the limit of high T it is that of matching logits with their means removed, over N · C (Hinton et al., 2015).
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (STUDENT, TEACHER)]
    assert gradient(300.0) == pytest.approx((centred[0] - centred[1]) / (5 * 8), abs=2e-3)
    assert np.linalg.norm(gradient(10.0)) / np.linalg.norm(gradient(100.0)) == pytest.approx(1, abs=0.2)


def test_without_a_share_for_the_teacher_it_is_never_asked():
    teacher = Fixed(TEACHER)
    loss, _ = DistillationLoss(teacher, 1.0, 2.0)(Fixed(STUDENT), VIEWS, torch.tensor(TARGETS, dtype=torch.float32))
    assert teacher.seen == []
    assert float(loss) == pytest.approx(cross_entropy(STUDENT, TARGETS), rel=1e-5)


def test_both_see_the_same_view_and_only_the_student_learns():
    teacher, student = Fixed(TEACHER), Fixed(STUDENT)
    views = torch.rand(5, 1, 4, 4)
    loss, _ = DistillationLoss(teacher, 0.5, 2.0)(student, views, torch.tensor(TARGETS, dtype=torch.float32))
    loss.backward()
    assert teacher.seen[0] is views
    assert student.seen[0] is views
    assert teacher.logits.grad is None
    assert student.logits.grad.abs().sum() > 0


def test_the_teacher_does_not_drop_out():
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 8)).train()
    assert not any(part.training for part in DistillationLoss(teacher, 0.5, 2.0).teacher.modules())
