"""Parts of the recipe that are no parameters: each can be altered, changes the student, and nothing stays altered."""

import shutil
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from samples import ROOT, image_set, params, rounded_network

from benchmarks import altered
from semdefect import seeds, training
from semdefect.device import create_accelerator
from semdefect.errors import UserError
from semdefect.network import create_network
from stages import distill


@pytest.fixture(autouse=True)
def answers_as_before(monkeypatch):
    """Its command line answers signals, and silences what is dropped on one, to the end of the process."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


RECIPE = {
    "model": "mobilenetv3_small_050",
    "resolution": 32,
    "start_resolution": 32,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.01,
    "ema_decay": 0.5,
    "random_views": 1.0,
}


def student(part=""):
    """Weights of a student after one epoch of four steps beside a teacher, with ``part`` altered."""
    checked = params(distill=RECIPE, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator, recipe = create_accelerator(checked.base, bf16_pays=False), checked.distill
    with altered.in_place(part) if part else nullcontext():
        network, teacher = create_network(recipe.model, 32), create_network("convnext_atto", 32)
        loss = distill.DistillationLoss(teacher, 0.5, 2.0, 1.0)
        trainer = training.Trainer("distill", network, loss, recipe, image_set(8, 32), accelerator, seeds.STUDENT)
        trainer.run(image_set(2, 32, seed=90), Path("model.safetensors"), Path("metrics"), part)
    return load_file("model.safetensors")


def changed(first, second):
    return {name for name in first if not torch.equal(first[name], second[name])}


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """The student of the whole recipe."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(tmp_path_factory.mktemp("usual"))
        return student()


@pytest.mark.parametrize("part", altered.PARTS)
def test_a_part_shapes_the_student_while_it_is_altered(part, usual, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert changed(student(part), usual)
    assert not changed(student(), usual)


def test_reestimation_leaves_the_weights(usual, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = {name.rsplit(".", 1)[1] for name in changed(student("batch norm re-estimated"), usual)}
    assert parts <= {"running_mean", "running_var", "num_batches_tracked"} and "running_mean" in parts


@pytest.mark.parametrize("stage", ["distill", "distill_int8"])
def test_reestimation_needs_batch_norm_in_the_first_part_alone(stage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(altered, "_RUN", lambda *_, **__: "ran")
    trainer = SimpleNamespace(stage=stage, network=rounded_network())
    if stage == "distill":
        with pytest.raises(UserError, match=r"folded into the convolutions: set distill\.init=scratch"):
            altered.run_and_reestimate(trainer, None, Path("model.safetensors"))
    else:
        assert altered.run_and_reestimate(trainer, None, Path("model.safetensors")) == "ran"


def test_reestimation_is_of_the_images_that_were_learned_from():
    normed, recipe = torch.nn.Sequential(torch.nn.BatchNorm2d(1)), SimpleNamespace(random_views=0.5)
    trainer = SimpleNamespace(stage="distill", network=normed, recipe=recipe)
    with pytest.raises(UserError, match=r"set distill\.random_views=1\.0"):
        altered.run_and_reestimate(trainer, None, Path("model.safetensors"))


def test_parts_are_listed_and_strange_ones_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["altered", "--list"])
    altered.main()
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == list(altered.PARTS)
    for words, fault in (
        (["no schedule", "distill"], "'no schedule'"),
        (["constant learning rate"], "name a part, from --list"),
    ):
        monkeypatch.setattr("sys.argv", ["altered", *words])
        with pytest.raises(SystemExit):
            altered.main()
        assert fault in capsys.readouterr().err


def test_the_project_itself_is_not_altered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setattr("sys.argv", ["altered", "constant learning rate", "distill"])
    with pytest.raises(SystemExit, match=r"^error: .*would replace this project's models"):
        altered.main()


@pytest.mark.parametrize("stage", altered.STAGES)
def test_each_of_its_stages_runs_with_the_part_in_place(stage, tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(altered.STAGES, stage, lambda params: rates.append(training.CosineLRScheduler))
    monkeypatch.setattr("sys.argv", ["altered", "constant learning rate", stage])
    rates, usual = [], training.CosineLRScheduler
    altered.main()
    assert rates == [altered.ConstantRate] and training.CosineLRScheduler is usual


def test_the_teacher_sees_another_view_and_the_student_the_usual_one():
    images = image_set(2, 32)
    loss, beside_itself = (
        altered.OtherView(named_identity(model), 0.5, 2.0, 1.0) for model in ("convnext_a", "mobile")
    )
    usual, _ = training.random_views(images.pixels, images.masks, torch.Generator().manual_seed(1))
    view, _ = altered.two_views(images.pixels, images.masks, torch.Generator().manual_seed(1))
    asked = loss.teacher(view)
    assert torch.equal(view, usual)
    assert asked.shape == view.shape and not torch.equal(asked, view)
    assert torch.equal(beside_itself.teacher(view), view)  # in the parts of `distill` without the teacher
    with pytest.raises(UserError, match=r"set distill\.random_views=1\.0"):
        loss.teacher(view[1:])


def named_identity(model):
    network = torch.nn.Identity()
    network.model = model
    return network


def test_a_constant_rate_is_the_peak_at_every_step():
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)
    schedule = altered.ConstantRate(optimizer, t_initial=10, warmup_t=5)
    for step in range(10):
        schedule.step_update(step)
        assert optimizer.param_groups[0]["lr"] == 0.5
