"""Training runs: killed and resumed ones end in the same bytes, and a run that cannot go on says why."""

import csv
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from samples import image_set, params, written
from timm.optim import create_optimizer_v2
from torch.optim import SGD

from semdefect import checkpoint, seeds, training
from semdefect.checkpoint import Checkpoint, Progress
from semdefect.device import create_accelerator
from semdefect.errors import UserError
from semdefect.losses import LabelLoss
from semdefect.network import create_network, load_network, predict
from semdefect.training import EpochOrder, Trainer, fingerprint

STAGE = "distill"
EPOCHS = 3
LABELS = LabelLoss(cell_weight=1.0)


class Killed(BaseException):
    """Stands for the end of the process."""


class KilledAfter:
    """The label loss, until it is asked once too often."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, network, batch):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return LABELS(network, batch)


def trainer(loss=None, renew=None, **changes):
    """A run of 3 epochs of 4 steps on 64 images of 48 px, ready to go, always from the same weights."""
    recipe = {
        "model": "mobilenetv3_small_050",
        "resolution": 48,
        "start_resolution": 32,
        "epochs": EPOCHS,
        "batch_size": 16,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "ema_decay": 0.5,
        "random_views": 0.5,
    }
    checked = params(distill=recipe | changes, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator = create_accelerator(checked.base, bf16_pays=False)
    network = create_network(checked.distill.model, checked.distill.resolution)
    recipe, seed = checked.distill, checked.base.seed
    return Trainer(STAGE, network, loss or LABELS, recipe, image_set(8, 48), accelerator, seed, renew)


def run(folder, identity="a", **options):
    return trainer(**options).run(image_set(2, 48, seed=90), folder / "model.safetensors", folder / "metrics", identity)


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(folder)
    return folder


def state(folder):
    return folder / ".scratch" / STAGE / "state.safetensors"


def test_muon_computes_its_updates_in_fp32():
    layer = torch.nn.Linear(16, 8, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    create_optimizer_v2(layer, "muon", lr=1.0, weight_decay=0.0, ns_steps=12, ns_coefficients=[(2.0, -1.5, 0.5)]).step()
    stretches = torch.linalg.svdvals(before - layer.weight.detach())
    assert stretches.tolist() == pytest.approx([stretches[0].item()] * 8, rel=1e-4)  # orthogonal; bf16 reaches 1e-2


def test_a_checkpoint_is_there_until_all_have_their_results(tmp_path, monkeypatch):
    ready = trainer(epochs=1)
    there = []
    monkeypatch.setattr(ready.accelerator, "wait_for_everyone", lambda: there.append(ready.checkpoint.path.exists()))
    ready.run(image_set(2, 48, seed=90), tmp_path / "model.safetensors", tmp_path / "metrics", "a")
    assert there == [True, True, False]  # after the epoch, before and after the checkpoint goes


def test_no_step_follows_a_gradient_longer_than_one(tmp_path):
    def steep(network, batch):
        loss, logits = LABELS(network, batch)
        return 1000 * loss, logits

    steep_run = trainer(steep)
    steep_run.run(image_set(2, 48, seed=90), tmp_path / "model.safetensors", tmp_path / "metrics", "a")
    lengths = [parameter.grad.norm() for parameter in steep_run.network.parameters() if parameter.grad is not None]
    assert torch.stack(lengths).norm() == pytest.approx(1.0, rel=1e-3)


def seen_by(**changes):
    """What a loss is shown in a run: the batches of all epochs."""
    batches = []

    def watching(network, batch):
        batches.append(batch)
        return LABELS(network, batch)

    run(Path("watched"), loss=watching, **changes)
    return batches


def test_the_share_of_images_that_is_asked_for_is_seen_in_random_views():
    def changed(share):
        """Whether an image is none of the training images as they are, for all of three epochs."""
        batches = seen_by(random_views=share, epochs=3)
        return torch.cat(
            [(batch.views * 255 - batch.views.mul(255).round()).abs().amax((1, 2, 3)) > 1e-3 for batch in batches]
        )

    assert not changed(0.0).any()
    assert changed(1.0).all()
    half = changed(0.5)
    assert 0.3 < half.float().mean() < 0.7


def test_images_in_views_and_as_they_are_keep_their_masks(monkeypatch):
    def negative(pixels, masks, generator):
        return 1 - pixels.float() / 255, 1 - masks.float()

    monkeypatch.setattr("semdefect.training.random_views", negative)
    images, seen = image_set(8, 48), []
    (batch, *_) = seen_by(random_views=0.5, start_resolution=48, epochs=1)
    for view, mask in zip(batch.views, batch.masks, strict=True):
        for pixels, own in zip(images.pixels, images.masks, strict=True):
            if torch.equal(view, pixels.float() / 255):
                seen.append(torch.equal(mask, own.float()))
            elif torch.equal(view, 1 - pixels.float() / 255):
                seen.append(torch.equal(mask, 1 - own.float()))
    assert seen == [True] * 16


def test_mixup_blends_the_share_of_batches_that_is_asked_for():
    assert {batch.own for batch in seen_by(mixup=0.0)} == {1.0}
    shares = [batch.own for batch in seen_by(mixup=1.0)]
    assert all(0.5 <= share < 1 for share in shares) and len(set(shares)) == len(shares)
    half = [batch.own < 1 for batch in seen_by(mixup=0.5, epochs=8)]
    assert 6 <= sum(half) <= 26


def test_mixed_targets_hold_both_labels():
    batch = seen_by(mixup=1.0, label_smoothing=0.0, epochs=1)[0]
    for row, (label, other) in enumerate(zip(batch.labels.tolist(), batch.labels.flip(0).tolist(), strict=True)):
        expected = 1.0 if label == other else batch.own
        assert float(batch.targets[row, label]) == pytest.approx(expected, abs=1e-6)


def test_a_stream_shows_other_images_in_every_epoch(tmp_path):
    asked, shown = [], []

    def renew(epoch):
        asked.append(epoch)
        return image_set(8, 48, seed=100 * epoch)

    def watching(network, batch):
        shown.append(batch.labels)
        return LABELS(network, batch)

    streaming = trainer(watching, renew)
    streaming.run(image_set(2, 48, seed=90), tmp_path / "model.safetensors", tmp_path / "metrics", "a")
    assert asked == list(range(EPOCHS))  # the first epoch as well: what the trainer was made with is never shown
    assert torch.equal(streaming.images.tensors[0], image_set(8, 48, seed=200).pixels)
    assert len(torch.cat(shown)) == EPOCHS * 64


def test_a_run_leaves_model_figures_and_curves_and_no_scratch(uninterrupted):
    files = written(uninterrupted)
    assert "model.safetensors" in files
    assert not [name for name in files if name.startswith(".scratch/distill")]
    figures = json.loads(files["metrics/metrics.json"])
    assert {"best_epoch", "best_val_macro_f1"} <= set(figures)
    assert 1 <= figures["best_epoch"] <= EPOCHS
    curves = {name: content.decode() for name, content in files.items() if name.endswith(".tsv")}
    names = {name.removeprefix("metrics/plots/metrics/") for name in curves}
    assert names == {"train/loss.tsv", "train/accuracy.tsv", "val/loss.tsv", "val/accuracy.tsv", "val/macro_f1.tsv"}
    for content in curves.values():
        rows = list(csv.DictReader(content.splitlines(), delimiter="\t"))
        assert [row["step"] for row in rows] == [str(epoch) for epoch in range(EPOCHS)]
    best = max(csv.DictReader(curves["metrics/plots/metrics/val/macro_f1.tsv"].splitlines(), delimiter="\t"),
               key=lambda row: float(row["macro_f1"]))  # fmt: skip
    assert int(best["step"]) + 1 == figures["best_epoch"]
    assert float(best["macro_f1"]) == figures["best_val_macro_f1"]


def test_the_kept_model_has_the_figures_of_the_best_epoch(uninterrupted):
    network = load_network(uninterrupted / "model.safetensors")
    assert network.resolution == 48
    judged = image_set(2, 48, seed=90)
    right = float((predict(network, judged.pixels).argmax(1) == judged.labels).float().mean())
    figures = json.loads((uninterrupted / "metrics" / "metrics.json").read_text())
    curve = (uninterrupted / "metrics/plots/metrics/val/accuracy.tsv").read_text().splitlines()
    assert float(curve[figures["best_epoch"]].split("\t")[-1]) == pytest.approx(right, abs=1e-4)


def test_the_best_epoch_is_kept(tmp_path, monkeypatch):
    training, weights = trainer(), {}
    judged = iter([0.2, 0.5, 0.3])

    def validate(_):
        weights[len(weights) + 1] = training.average.module.evidence.weight.clone()
        return {"val/loss": 1.0, "val/accuracy": 0.5, "val/macro_f1": next(judged)}

    monkeypatch.setattr(training, "_validate", validate)
    progress = training.run(image_set(2, 48), tmp_path / "model.safetensors", tmp_path / "metrics", "a")
    assert progress.best_epoch == 2
    assert torch.equal(load_network(tmp_path / "model.safetensors").evidence.weight, weights[2])
    assert not torch.equal(weights[2], weights[3])


def test_the_same_run_gives_the_same_bytes(uninterrupted, tmp_path):
    run(tmp_path)
    assert written(tmp_path) == written(uninterrupted)


@pytest.mark.parametrize("steps", [4, 6, 11])
def test_a_killed_and_resumed_run_gives_the_same_bytes(uninterrupted, tmp_path, capsys, steps):
    with pytest.raises(Killed):
        run(tmp_path, loss=KilledAfter(steps))
    assert state(tmp_path).exists()
    assert not (tmp_path / "model.safetensors").exists()
    loss = KilledAfter(12 - steps // 4 * 4)  # finished epochs are not trained again
    run(tmp_path, loss=loss)
    assert loss.left == 0
    assert f"going on after epoch {steps // 4} of {EPOCHS}" in capsys.readouterr().out
    assert written(tmp_path) == written(uninterrupted)


def test_a_killed_and_resumed_run_of_muon_gives_the_same_bytes(uninterrupted, tmp_path, monkeypatch):
    folders = tmp_path / "whole", tmp_path / "resumed"
    for folder, losses in zip(folders, ([None], [KilledAfter(6), None]), strict=True):
        folder.mkdir()
        monkeypatch.chdir(folder)
        for loss in losses:
            with pytest.raises(Killed) if loss else nullcontext():
                run(folder, loss=loss, optimizer="muon")
    whole, resumed = map(written, folders)
    assert resumed == whole
    assert whole["model.safetensors"] != written(uninterrupted)["model.safetensors"]


def test_a_run_killed_between_its_last_epoch_and_its_results_ends_well(uninterrupted, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise Killed

    moments = {"semdefect.training.write_curves": killed, "semdefect.checkpoint.shutil": SimpleNamespace(rmtree=killed)}
    for target, replacement in moments.items():
        with monkeypatch.context() as patch:
            patch.setattr(target, replacement)
            with pytest.raises(Killed):
                run(tmp_path)
        (tmp_path / "model.safetensors").unlink()  # DVC removes outputs before it runs a stage again
        run(tmp_path)
        assert written(tmp_path) == written(uninterrupted)


def test_a_run_of_another_identity_starts_over(uninterrupted, tmp_path, capsys):
    with pytest.raises(Killed):
        run(tmp_path, identity="older", loss=KilledAfter(9))
    loss = KilledAfter(12)
    run(tmp_path, loss=loss)
    assert loss.left == 0
    assert "going on" not in capsys.readouterr().out
    assert written(tmp_path) == written(uninterrupted)


def test_a_good_state_stays_where_memory_runs_out(uninterrupted, tmp_path, monkeypatch, capsys):
    def no_memory(*_):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4096 bytes")

    with pytest.raises(Killed):
        run(tmp_path, loss=KilledAfter(9))
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="not enough memory"):
        patched.setattr(checkpoint, "load_file", no_memory)
        run(tmp_path)
    run(tmp_path)
    assert "going on after epoch" in capsys.readouterr().out
    assert written(tmp_path) == written(uninterrupted)


@pytest.mark.parametrize("keep", [0, 2000, -1])
def test_a_damaged_state_starts_over_and_says_so(uninterrupted, tmp_path, capsys, keep):
    with pytest.raises(Killed):
        run(tmp_path, loss=KilledAfter(9))
    whole = state(tmp_path).read_bytes()
    state(tmp_path).write_bytes(whole[:keep])
    loss = KilledAfter(12)
    run(tmp_path, loss=loss)
    assert loss.left == 0
    message = capsys.readouterr().out
    assert "state.safetensors cannot be used" in message
    assert "starts from the first epoch" in message
    assert written(tmp_path) == written(uninterrupted)


def test_a_loss_that_is_no_number_names_the_parameter(tmp_path):
    def broken(network, batch):
        loss, logits = LABELS(network, batch)
        return loss * float("nan"), logits

    with pytest.raises(UserError, match=r"distill\.learning_rate is 0\.003 and the loss became nan: lower it"):
        run(tmp_path, loss=broken)
    assert not (tmp_path / "model.safetensors").exists()


def test_weights_that_break_in_the_last_step_are_not_kept(tmp_path):
    with pytest.raises(UserError, match=r"distill\.learning_rate is 1e\+30"):
        run(tmp_path, epochs=1, learning_rate=1e30)
    assert not (tmp_path / "model.safetensors").exists()


def test_training_learns_what_the_images_show(tmp_path):
    """Stripes of eight directions; by chance 1 of 8 is right."""
    progress = run(tmp_path, epochs=24, ema_decay=0.0, start_resolution=48)
    assert progress.best_macro_f1 > 0.3
    assert progress.history[-1]["train/loss"] < progress.history[0]["train/loss"]


def test_each_epoch_has_an_order_of_its_own_that_a_resumed_run_repeats():
    order = EpochOrder(50, seed=1)
    first = list(order)
    order.epoch = 1
    second = list(order)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    resumed = EpochOrder(50, seed=1)
    resumed.epoch = 1
    assert list(resumed) == second
    assert list(EpochOrder(50, seed=2)) != first


def test_a_fingerprint_tells_runs_apart():
    base, recipe, data = params().base, params().distill, image_set(1)

    def of(recipe=recipe, data=data, processes=1, precision="no", teacher="a"):
        machine = SimpleNamespace(num_processes=processes, device=torch.device("cpu"), mixed_precision=precision)
        return fingerprint(base, recipe, data, data, machine, teacher=teacher)

    assert of() == of()
    assert of() != of(recipe=params(distill={"epochs": 4}).distill)
    assert of() != of(data=image_set(1, seed=1))
    assert of() != of(teacher="b")
    assert of() != of(processes=2) and of() != of(precision="bf16")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (("a", 3), "distill is after epoch 0 on one machine and after 3 on another; remove that folder on all"),
        (("b", 0), "distill: the machines have different code, data, parameters or weights"),
    ],
)
def test_machines_that_do_not_go_together_are_stopped(tmp_path, monkeypatch, other, said):
    monkeypatch.setattr(training, "gather_object", lambda found: [*found, other])
    with pytest.raises(UserError, match=said):
        run(tmp_path)


def test_a_checkpoint_restores_weights_and_momentum_exactly():
    def built(seed):
        torch.manual_seed(seed)
        network = torch.nn.Linear(4, 3)
        return network, SGD(network.parameters(), lr=0.1, momentum=0.9)

    def step(network, optimizer, batch):
        optimizer.zero_grad()
        network(batch).square().sum().backward()
        optimizer.step()

    batches = torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0))
    network, optimizer = built(0)
    for batch in batches[:2]:
        step(network, optimizer, batch)
    Checkpoint("any", {"network": network}, optimizer).save(Progress("id", 2, [{"x": 1 / 3}, {"x": 0.1}], 1, 0.7))
    other, fresh = built(9)
    progress = Checkpoint("any", {"network": other}, fresh).load("id")
    assert (progress.epoch, progress.history, progress.best_epoch) == (2, [{"x": 1 / 3}, {"x": 0.1}], 1)
    for batch in batches[2:]:
        step(network, optimizer, batch)
        step(other, fresh, batch)
    assert torch.equal(network.weight, other.weight)


def test_seeds_of_all_uses_differ():
    used = [
        seeds.image_seed(base, stream, index)
        for base in (0, 1, 17)
        for stream in (seeds.DATA_SET, seeds.TEACHER, seeds.STUDENT, seeds.BENCHMARK, seeds.PRETRAIN, seeds.TEST)
        for index in (0, 1, 2400, 10**7 - 1)
    ]
    assert len(set(used)) == len(used)


def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        UserError, match=r"base\.device is cuda, which this machine does not have; use one of auto, cpu"
    ):
        create_accelerator(params(base={"device": "cuda"}).base, bf16_pays=False)
