"""The part of a student's training in which FP32 and INT8 learn to answer alike."""

import pytest
import torch
from samples import image_set, params, rounded_network, tiny_network

from semdefect.agreement import agreement_trainer
from semdefect.device import create_accelerator
from semdefect.losses import LabelLoss
from semdefect.rounding import Rounding

RECIPE = {
    "model": "mobilenetv3_small_050",
    "resolution": 64,
    "start_resolution": 32,
    "epochs": 7,
    "batch_size": 16,
    "int8_epochs": 2,
    "int8_learning_rate": 0.0003,
}


def trainer_of(network):
    checked = params(distill=RECIPE, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator = create_accelerator(checked.base, bf16_pays=False)
    return agreement_trainer("agree", network, LabelLoss(1.0), checked.distill, image_set(4, 64), accelerator, 0)


def rounding_of(network):
    return [module for module in network.modules() if isinstance(module, Rounding)]


@pytest.mark.parametrize("has_rounding", [True, False])
def test_it_is_validated_in_int8_and_keeps_its_last_epoch(has_rounding):
    trainer = trainer_of(rounded_network() if has_rounding else tiny_network(resolution=64))
    assert trainer.keeps_last and trainer.rate_key == "distill.int8_learning_rate"
    assert (trainer.recipe.epochs, trainer.recipe.learning_rate, trainer.recipe.start_resolution) == (2, 0.0003, 64)
    assert trainer.network.rounded
    assert all(rounding.active for rounding in rounding_of(trainer.average.module))
    assert not any(rounding.active for rounding in rounding_of(trainer.network))


def test_ranges_that_weights_bring_are_kept():
    network = rounded_network()
    before = [(rounding.scale, rounding.zero) for rounding in rounding_of(network)]
    scales = {name: value.clone() for name, value in network.named_buffers() if name.endswith("scale")}
    trainer = trainer_of(network)
    assert [(rounding.scale, rounding.zero) for rounding in rounding_of(trainer.network)] == before
    assert all(torch.equal(value, scales[name]) for name, value in trainer.network.named_buffers() if name in scales)
