"""The losses against the formulas on paper, in float64 by scipy."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from semdefect import CLASSES
from semdefect.losses import Batch, DistillationLoss, LabelLoss, cell_loss, dist_loss, standardised_loss

RNG = np.random.default_rng(3)
STUDENT, TEACHER = RNG.normal(0, 2, (5, 8)), RNG.normal(0, 2, (5, 8))
TARGETS = np.eye(8)[[0, 3, 3, 7, 5]] * 0.9 + 0.1 / 8
LABELS = [0, 3, 3, 7, 5]
CELLS = RNG.normal(0, 2, (5, 8, 4, 4))


def batch(views=None, masks=None, known=(False,) * 5) -> Batch:
    """Five images; by default nobody knows where their defects lie."""
    return Batch(
        views=torch.zeros(5, 1, 4, 4) if views is None else views,
        labels=torch.tensor(LABELS),
        targets=torch.tensor(TARGETS, dtype=torch.float32),
        masks=torch.zeros(5, 1, 32, 32) if masks is None else masks,
        known=torch.tensor(known),
    )


class Fixed(nn.Module):
    """A network that always answers with the same logits and cells, and remembers what it saw."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.seen = []

    def forward(self, views, with_cells=False):
        self.seen.append(views)
        logits = self.logits * 1
        return (logits, torch.tensor(CELLS, dtype=torch.float32)) if with_cells else logits


def cross_entropy(logits, targets):
    return -(targets * log_softmax(logits, axis=1)).sum(axis=1).mean()


def divergence(teacher, student, temperature):
    p = softmax(teacher / temperature, axis=1)
    q = softmax(student / temperature, axis=1)
    return (p * np.log(p / q)).sum(axis=1).mean()


def test_label_loss_is_the_mean_cross_entropy():
    loss, logits = LabelLoss(1.0)(Fixed(STUDENT), batch())
    assert float(loss.detach()) == pytest.approx(cross_entropy(STUDENT, TARGETS), rel=1e-5)
    assert logits.detach().numpy() == pytest.approx(STUDENT, rel=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_weighted_sum_of_both_parts(alpha, temperature):
    task = DistillationLoss(Fixed(TEACHER), alpha, temperature, 1.0)
    loss, _ = task(Fixed(STUDENT), batch())
    hard, soft = cross_entropy(STUDENT, TARGETS), divergence(TEACHER, STUDENT, temperature)
    assert float(loss.detach()) == pytest.approx(alpha * hard + (1 - alpha) * temperature**2 * soft, rel=1e-4)


def test_a_student_that_says_what_the_teacher_says_has_no_soft_loss():
    task = DistillationLoss(Fixed(TEACHER), 0.0, 3.0, 1.0)
    loss, _ = task(Fixed(TEACHER), batch())
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)


def test_gradients_keep_their_size_at_high_temperatures():
    """Without T² they would fall with the square of the temperature: by 100 from 10 to 100."""

    def gradient(temperature):
        student = Fixed(STUDENT)
        task = DistillationLoss(Fixed(TEACHER), 0.0, temperature, 1.0)
        task(student, batch())[0].backward()
        return student.logits.grad.numpy()

    # In the limit of high T it is that of matching logits with their means removed, over N · C (Hinton et al., 2015).
    centred = [logits - logits.mean(axis=1, keepdims=True) for logits in (STUDENT, TEACHER)]
    assert gradient(300.0) == pytest.approx((centred[0] - centred[1]) / (5 * 8), abs=2e-3)
    assert np.linalg.norm(gradient(10.0)) / np.linalg.norm(gradient(100.0)) == pytest.approx(1, abs=0.2)


def test_without_a_share_for_the_teacher_it_is_never_asked():
    teacher = Fixed(TEACHER)
    loss, _ = DistillationLoss(teacher, 1.0, 2.0, 1.0)(Fixed(STUDENT), batch())
    assert teacher.seen == []
    assert float(loss.detach()) == pytest.approx(cross_entropy(STUDENT, TARGETS), rel=1e-5)


def test_both_see_the_same_view_and_only_the_student_learns():
    teacher, student = Fixed(TEACHER), Fixed(STUDENT)
    views = torch.rand(5, 1, 4, 4)
    loss, _ = DistillationLoss(teacher, 0.5, 2.0, 1.0)(student, batch(views))
    loss.backward()
    assert teacher.seen[0] is views
    assert student.seen[0] is views
    assert teacher.logits.grad is None
    assert student.logits.grad.abs().sum() > 0


def test_the_teacher_does_not_drop_out():
    teacher = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 8)).train()
    assert not any(part.training for part in DistillationLoss(teacher, 0.5, 2.0, 1.0).teacher.modules())


def cell_entropy(image, row, column, label):
    return -log_softmax(CELLS[image, :, row, column])[label]


def test_cells_under_the_defect_learn_its_class_and_the_others_clean():
    """Images 0 and 1 know their masks; one cell of image 0 is touched, and all of image 1 but two rows."""
    masks = torch.zeros(5, 1, 32, 32)
    masks[0, 0, 9, 30] = 1  # one pixel of the mask, in cell (1, 3) of 4 x 4
    masks[1, 0, 16:] = 1
    masks[4] = 1  # not known, must not count
    found = cell_loss(torch.tensor(CELLS, dtype=torch.float32), batch(masks=masks, known=[True, True] + [False] * 3))
    clean = CLASSES.index("clean")
    places = [(row, column) for row in range(4) for column in range(4)]
    touched = [cell_entropy(0, 1, 3, LABELS[0])] + [cell_entropy(1, r, c, LABELS[1]) for r, c in places if r >= 2]
    others = [cell_entropy(0, r, c, clean) for r, c in places if (r, c) != (1, 3)]
    others += [cell_entropy(1, r, c, clean) for r, c in places if r < 2]
    assert float(found) == pytest.approx((np.mean(touched) + np.mean(others)) / 2, rel=1e-5)


def test_without_known_masks_cells_teach_nothing():
    assert float(cell_loss(torch.tensor(CELLS, dtype=torch.float32), batch(masks=torch.ones(5, 1, 32, 32)))) == 0


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_cells_add_to_the_label_loss_by_their_weight(weight):
    known = batch(known=[True] * 5)
    cells = float(cell_loss(torch.tensor(CELLS, dtype=torch.float32), known))
    loss, _ = LabelLoss(weight)(Fixed(STUDENT), known)
    assert float(loss.detach()) == pytest.approx(cross_entropy(STUDENT, TARGETS) + weight * cells, rel=1e-5)
    assert cells > 0.1


def tensor(values):
    return torch.tensor(values, dtype=torch.float32)


def test_standardised_logits_teach_their_shape_and_not_their_size():
    def unit(logits):
        return (logits - logits.mean(axis=1, keepdims=True)) / logits.std(axis=1, ddof=1, keepdims=True)

    found = standardised_loss(tensor(STUDENT), tensor(TEACHER), 2.0)
    assert float(found) == pytest.approx(4 * divergence(unit(TEACHER), unit(STUDENT), 2.0), rel=1e-4)
    assert float(standardised_loss(tensor(3 * TEACHER + 1), tensor(TEACHER), 2.0)) == pytest.approx(0, abs=1e-5)


def test_dist_is_one_minus_the_correlations_over_classes_and_over_images():
    q, p = softmax(STUDENT / 2, axis=1), softmax(TEACHER / 2, axis=1)
    between = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)])
    within = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q.T, p.T, strict=True)])
    found = dist_loss(tensor(STUDENT), tensor(TEACHER), 2.0)
    assert float(found) == pytest.approx(2 * 4 * (between + within), rel=1e-4)


def test_a_mixed_batch_learns_where_both_defects_lie_by_their_shares():
    masks = torch.zeros(5, 1, 32, 32)
    masks[0], masks[3, 0, :9] = 1, 1
    plain = batch(masks=masks, known=[True, True, False, True, True])
    mixed = Batch(plain.views, plain.labels, plain.targets, plain.masks, plain.known, own=0.7)
    cells = tensor(CELLS)
    turned = Batch(plain.views, plain.labels.flip(0), plain.targets, masks.flip(0), plain.known.flip(0))
    expected = 0.7 * float(cell_loss(cells, plain)) + 0.3 * float(cell_loss(cells, turned))
    loss, _ = LabelLoss(1.0)(Fixed(STUDENT), mixed)
    assert float(loss.detach()) - cross_entropy(STUDENT, TARGETS) == pytest.approx(expected, rel=1e-4)
