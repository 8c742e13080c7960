"""The part of a student's training in which FP32 and INT8 learn to answer alike."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from samples import image_set, params, rounded_network, tiny_network, written

from semdefect import agreement, rounding
from semdefect.agreement import Bar, agreement_trainer
from semdefect.device import create_accelerator
from semdefect.errors import UserError
from semdefect.losses import LabelLoss
from semdefect.network import load_network, predict
from semdefect.rounding import Rounding, calibrate, set_precision

RECIPE = {
    "model": "mobilenetv3_small_050",
    "resolution": 64,
    "start_resolution": 32,
    "epochs": 7,
    "batch_size": 16,
    "int8_epochs": 2,
    "int8_learning_rate": 0.0003,
}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def tries(monkeypatch):
    """Sets how many other calibrations a missed bar leads to; none until it is called."""

    def coarse(network, pixels):  # in a third of the time
        with monkeypatch.context() as within:
            within.setattr(rounding, "_SHARES", (1, 0.5))
            calibrate(network, pixels)

    monkeypatch.setattr(agreement, "calibrate", coarse)
    monkeypatch.setattr(agreement, "CALIBRATION", 8)  # of the 32 images that train
    monkeypatch.setattr(agreement, "OTHER_RANGES", 0)
    return partial(monkeypatch.setattr, agreement, "OTHER_RANGES")


def trainer_of(network, bar=None):
    checked = params(distill=RECIPE, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator = create_accelerator(checked.base, bf16_pays=False)
    task, data = LabelLoss(1.0), image_set(4, 64)
    key = "distill.int8_learning_rate"
    return agreement_trainer("agree", network, task, checked.distill, data, accelerator, 0, rate_key=key, bar=bar)


def rounding_of(network):
    return [module for module in network.modules() if isinstance(module, Rounding)]


def ranges_of(network):
    return [(rounding.scale, rounding.zero) for rounding in rounding_of(network)]


@pytest.mark.parametrize("has_rounding", [True, False])
def test_it_is_validated_in_int8(has_rounding):
    trainer = trainer_of(rounded_network() if has_rounding else tiny_network(resolution=64))
    assert trainer.rate_key == "distill.int8_learning_rate"
    assert (trainer.recipe.epochs, trainer.recipe.learning_rate, trainer.recipe.start_resolution) == (2, 0.0003, 64)
    assert trainer.network.rounded
    assert all(rounding.active for rounding in rounding_of(trainer.average.module))
    assert not any(rounding.active for rounding in rounding_of(trainer.network))


def test_ranges_that_weights_bring_are_kept():
    network = rounded_network()
    before = ranges_of(network)
    scales = {name: value.clone() for name, value in network.named_buffers() if name.endswith("scale")}
    trainer = trainer_of(network)
    assert ranges_of(trainer.network) == before
    assert all(torch.equal(value, scales[name]) for name, value in trainer.network.named_buffers() if name in scales)


def state_of(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def run(shares, further_epochs=3, folder=Path("run")):
    """A run of two epochs whose student agrees on these ``shares``, one question after the other; 0.99 is enough."""
    judged = []

    def measure(network, images):
        if not shares:
            raise Killed
        assert all(rounding.active for rounding in rounding_of(network))
        judged.append(state_of(network))
        return shares.pop(0)

    trainer = trainer_of(rounded_network(), Bar(measure, 0.99, further_epochs))
    progress = trainer.run(image_set(2, 64, seed=90), folder / "model.safetensors", folder / "metrics", "a")
    return progress, judged, state_of(load_network(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("shares", "further_epochs", "epochs", "kept"),
    [
        ([0.99], 3, 2, 2),
        ([0.98, 0.97, 0.992], 3, 4, 4),
        ([0.98, 0.985, 0.97, 0.985], 3, 5, 3),
        ([0.98, 0.97], 1, 3, 2),
        ([], 0, 2, 2),
    ],
)
def test_further_epochs_follow_until_one_clears_the_bar(shares, further_epochs, epochs, kept, capsys):
    missed = sum(share < 0.99 for share in shares)
    progress, judged, saved = run(shares, further_epochs)
    assert not shares
    assert (progress.epoch, progress.best_epoch) == (epochs, kept)
    if judged:
        assert same(saved, judged[kept - 2]) and not any(map(same, judged, judged[1:]))
    said = capsys.readouterr().out
    assert said.count("fewer than 99.00%, at best; a further epoch follows") == max(len(judged) - 1, 0)
    assert said.count("fewer than 99.00%, at best; that is kept") == (missed == len(judged) > 0)
    figures = json.loads(Path("run/metrics/metrics.json").read_text())
    assert figures["best_epoch"] == kept


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ([0.98, 0.985, 0.991], 2),  # the first that clears the bar
        ([0.98, 0.985, 0.97, 0.98, 0.97, 0.96], 1),  # where none does, the nearest of all epochs
        ([0.985, 0.98, 0.97, 0.98, 0.97, 0.985], 0),
        ([0.98, 0.97, 0.96, 0.97, 0.985, 0.98], 4),
    ],
)
def test_what_is_kept_is_what_was_measured(shares, kept, tries, capsys):
    tries(2)
    every = list(shares)
    progress, judged, saved = run(shares, 1)
    assert not shares and progress.epoch == 1 + len(every) // 3
    assert same(saved, judged[kept]) and not any(same(saved, other) for other in judged[:kept] + judged[kept + 1 :])
    assert [figures.get("val/int8_agreement") for figures in progress.history[1:]] == [
        max(every[start : start + 3]) for start in range(0, len(every), 3)
    ]
    said = capsys.readouterr().out
    assert f"{every[0]:.2%} of the validation images" in said and "it is calibrated on other" in said
    assert f"calibration 2 of 2 on other training images: {every[2]:.2%}" in said


def test_a_calibration_leaves_the_weights_in_fp32_and_what_trains_alone(tries):
    _, plain, _ = run([0.98, 0.97, 0.975, 0.991], folder=Path("plain"))
    tries(1)
    _, judged, _ = run([0.98, 0.97, 0.97, 0.985, 0.975, 0.98, 0.991], folder=Path("tried"))
    assert all(map(same, judged[::2], plain))


def test_a_calibration_is_of_other_images_and_of_the_same_network(tries):
    trainer, images = trainer_of(rounded_network()), image_set(2, 64, seed=7).pixels
    first, second = trainer._calibrated(1), trainer._calibrated(2)
    assert ranges_of(first) != ranges_of(second) and same(state_of(first), state_of(trainer._calibrated(1)))
    agreement.calibrate(trainer.average.module, image_set(4, 64).sample(8, 2).pixels)
    assert ranges_of(second) == ranges_of(trainer.average.module)
    for network in (first, second):
        set_precision(network, "fp32")
    assert torch.allclose(predict(first, images), predict(second, images), atol=1e-4)


def test_without_other_images_there_is_no_other_calibration(tries, monkeypatch):
    tries(2)
    monkeypatch.setattr(agreement, "CALIBRATION", 32)
    shares = [0.98, 0.97]
    progress, _, _ = run(shares, 1)
    assert progress.epoch == 3 and not shares


def test_weights_that_are_no_numbers_are_told():
    trainer = trainer_of(rounded_network(), Bar(lambda *_: 0.5, 0.99, 1))
    next(iter(trainer.average.module.parameters())).data.fill_(torch.nan)
    with pytest.raises(UserError, match=r"distill\.int8_learning_rate is .* lower it"):
        trainer._validate(image_set(1, 64))


def test_a_bar_of_nothing_is_none():
    assert trainer_of(rounded_network(), Bar(lambda *_: 0.5, 0.0, 3)).bar is None


def test_without_a_bar_the_last_epoch_is_kept_whatever_its_macro_f1(monkeypatch):
    trainer, judged = trainer_of(rounded_network()), iter([0.5, 0.3])
    monkeypatch.setattr(trainer, "_validate", lambda _: {"val/accuracy": 0.5, "val/macro_f1": next(judged)})
    assert trainer.run(image_set(2, 64), Path("model.safetensors"), Path("metrics"), "a").best_epoch == 2


def test_further_epochs_have_the_learning_rates_of_the_last_planned_one(monkeypatch):
    trainer, rates = trainer_of(rounded_network(), Bar(lambda *_: 0.5, 0.99, 2)), []
    step = trainer._step

    def watched(*batch):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(*batch)

    monkeypatch.setattr(trainer, "_step", watched)
    trainer.run(image_set(2, 64), Path("model.safetensors"), Path("metrics"), "a")
    first, *others = [rates[start : start + trainer.steps] for start in range(0, len(rates), trainer.steps)]
    assert len(others) == 3 and others[0] == others[1] == others[2] != first


def test_a_run_killed_in_a_further_epoch_ends_in_the_same_bytes(tries, capsys):
    tries(1)
    run([0.98, 0.985, 0.97, 0.975, 0.98, 0.991], folder=Path("whole"))
    with pytest.raises(Killed):
        run([0.98, 0.985, 0.97, 0.975, 0.98], folder=Path("resumed"))
    capsys.readouterr()
    run([0.98, 0.991], folder=Path("resumed"))
    assert "agree: going on after epoch 3 (2 planned)" in capsys.readouterr().out
    assert written(Path("resumed")) == written(Path("whole"))
