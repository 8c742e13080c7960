"""The part of a student's training in which FP32 and INT8 learn to answer alike."""

import json
from pathlib import Path

import pytest
import torch
from samples import image_set, params, rounded_network, tiny_network, written

from semdefect import agreement, rounding
from semdefect.agreement import Bar, agreement_trainer
from semdefect.device import create_accelerator
from semdefect.losses import LabelLoss
from semdefect.network import load_network, predict
from semdefect.rounding import CALIBRATION, Rounding, calibrate, set_precision

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
def other_ranges(monkeypatch):
    def tried(count):
        monkeypatch.setattr(agreement, "OTHER_RANGES", count)

    def coarse(network, pixels):  # in a third of the time
        with monkeypatch.context() as within:
            within.setattr(rounding, "_SHARES", (1, 0.5))
            calibrate(network, pixels)

    monkeypatch.setattr(agreement, "calibrate", coarse)
    tried(0)
    return tried


def trainer_of(network, bar=None):
    checked = params(distill=RECIPE, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator = create_accelerator(checked.base, bf16_pays=False)
    task, data = LabelLoss(1.0), image_set(4, 64)
    return agreement_trainer("agree", network, task, checked.distill, data, accelerator, 0, bar=bar)


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


def run(shares, further_epochs=3, folder=Path("run")):
    """A run of two epochs whose student agrees on these ``shares`` one question after the other; 0.99 is enough."""
    judged = []

    def measure(network, images):
        if not shares:
            raise Killed
        judged.append(network.cells.bias.clone())
        return shares.pop(0)

    trainer = trainer_of(rounded_network(), Bar(measure, 0.99, further_epochs))
    progress = trainer.run(image_set(2, 64, seed=90), folder / "model.safetensors", folder / "metrics", "a")
    return progress, judged, load_network(folder / "model.safetensors").cells.bias


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
    told = len(shares) - 1 if shares else 0
    progress, judged, weights = run(shares, further_epochs)
    assert not shares
    assert (progress.epoch, progress.best_epoch) == (epochs, kept)
    if judged:
        assert torch.equal(weights, judged[kept - 2]) and not any(map(torch.equal, judged, judged[1:]))
    said = capsys.readouterr().out
    assert said.count("fewer than 99.00%; a further epoch follows") == told
    figures = json.loads(Path("run/metrics/metrics.json").read_text())
    assert figures["best_epoch"] == kept


def test_other_ranges_are_tried_until_some_clear_the_bar(other_ranges, monkeypatch, capsys):
    other_ranges(3)
    trainer, asked = (
        trainer_of(rounded_network(), Bar(lambda network, _: asked.append(network) or shares.pop(0), 0.99, 1)),
        [],
    )
    shares = [0.98, 0.985, 0.991]
    progress = trainer.run(image_set(2, 64), Path("model.safetensors"), Path("metrics"), "a")
    assert progress.epoch == 2 and not shares
    own, *others = map(ranges_of, asked)
    assert all(ranges != own for ranges in others) and others[0] != others[1]
    kept, images = load_network(Path("model.safetensors")), image_set(2, 64, seed=7).pixels
    assert ranges_of(kept) == others[1]
    assert all(rounding.active for rounding in rounding_of(asked[2]))
    for network in (kept, asked[0]):
        set_precision(network, "fp32")
    assert torch.allclose(predict(kept, images), predict(asked[0], images), atol=1e-4)
    said = capsys.readouterr().out
    assert said.count("fewer than 99.00%; ranges that other training images give are tried") == 1
    assert "further epoch" not in said


def test_ranges_are_those_of_training_images(other_ranges):
    trainer = trainer_of(rounded_network())
    found = trainer._with_ranges(2)
    agreement.calibrate(trainer.average.module, image_set(4, 64).sample(CALIBRATION, 2).pixels)
    assert ranges_of(found) == ranges_of(trainer.average.module)


def test_training_goes_on_with_its_own_ranges(other_ranges):
    _, plain, _ = run([0.98, 0.97, 0.975, 0.991], folder=Path("plain"))
    other_ranges(1)
    shares = [0.98, 0.97, 0.97, 0.985, 0.975, 0.98, 0.991]
    progress, judged, _ = run(shares, folder=Path("drawn"))
    assert (progress.epoch, progress.best_epoch) == (5, 5)
    assert all(map(torch.equal, judged[::2], plain))
    assert [figures["val/int8_agreement"] for figures in progress.history[1:]] == [0.98, 0.985, 0.98, 0.991]


def test_the_nearest_ranges_of_all_epochs_are_kept(other_ranges):
    other_ranges(1)
    progress, _, _ = run([0.98, 0.985, 0.98, 0.97], 1)
    assert (progress.epoch, progress.best_epoch) == (3, 2)


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


@pytest.mark.parametrize("others", [0, 1])
def test_a_run_killed_in_a_further_epoch_ends_in_the_same_bytes(others, other_ranges, capsys):
    other_ranges(others)
    epochs = (
        [[0.98, 0.985], [0.97, 0.975], [0.975, 0.97], [0.98, 0.991]] if others else [[0.98], [0.97], [0.975], [0.991]]
    )
    run([share for epoch in epochs for share in epoch], folder=Path("whole"))
    with pytest.raises(Killed):
        run([share for epoch in epochs[:2] for share in epoch] + epochs[2][:others], folder=Path("resumed"))
    capsys.readouterr()
    run([share for epoch in epochs[2:] for share in epoch], folder=Path("resumed"))
    assert "agree: going on after epoch 3 (2 planned)" in capsys.readouterr().out
    assert written(Path("resumed")) == written(Path("whole"))
