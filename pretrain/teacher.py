"""Pretrain the teacher's backbone on rendered images only: semdefect/weights/<model>.safetensors, for ``init: sem``.

    python -m pretrain.teacher        # about an hour on one core of two

Learns classes and, from the masks, where the defect lies; with ``alpha`` below 1 from the answers of the student's
weights too. Killed at any time and run again, it goes on after the last finished epoch.
"""

from pretrain.backbone import PARAMS, pretrain
from semdefect.device import create_accelerator
from semdefect.losses import DistillationLoss, LabelLoss
from semdefect.network import load_network, sem_weights
from semdefect.params import Pretrain
from semdefect.stage import run_stage


def main(params: Pretrain) -> None:
    """Train, or go on with, what the parameters describe."""
    recipe = params.teacher
    if recipe.alpha == 1:
        pretrain("teacher", recipe, params.base, LabelLoss(recipe.cell_weight))
        return
    helper = sem_weights(params.student.model, "teacher.alpha")
    device = create_accelerator(params.base, bf16_pays=True).device  # as `pretrain` does: one process, one precision
    loss = DistillationLoss(load_network(helper).to(device), recipe.alpha, recipe.temperature, recipe.cell_weight)
    pretrain("teacher", recipe, params.base, loss, helper)


if __name__ == "__main__":
    run_stage(main, __doc__, PARAMS, Pretrain)
