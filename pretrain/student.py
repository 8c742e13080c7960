"""Pretrain the student's backbone on rendered images only: semdefect/weights/<model>.safetensors, for ``init: sem``.

    python -m pretrain.student        # one to two hours on one core of two

Learns classes and, from the masks, where the defect lies. Killed at any time and run again, it goes on after the
last finished epoch.
"""

from pretrain.backbone import PARAMS, pretrain
from semdefect.losses import LabelLoss
from semdefect.params import Pretrain
from semdefect.stage import run_stage


def main(params: Pretrain) -> None:
    """Train, or go on with, what the parameters describe."""
    pretrain("student", params.student, params.base, LabelLoss(params.student.cell_weight))


if __name__ == "__main__":
    run_stage(main, __doc__, PARAMS, Pretrain)
