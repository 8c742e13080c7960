"""Parts of the recipe that are no parameters: each can be altered, changes the student, and nothing stays altered."""

from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from samples import image_set, params

from benchmarks import altered
from semdefect import losses, seeds, training
from semdefect.device import create_accelerator
from semdefect.network import create_network

RECIPE = {
    "model": "mobilenetv3_small_050",
    "resolution": 32,
    "start_resolution": 32,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.01,
    "ema_decay": 0.5,
}


def student(part=""):
    """Weights of a student after one epoch of four steps beside a teacher, with ``part`` altered."""
    checked = params(distill=RECIPE, base={"threads": 1, "device": "cpu", "precision": "fp32"})
    accelerator, recipe = create_accelerator(checked.base, bf16_pays=False), checked.distill
    with patch.object(*altered.PARTS[part]) if part else nullcontext():
        network, teacher = create_network(recipe.model, 32), create_network("convnext_atto", 32)
        loss = losses.DistillationLoss(teacher, 0.5, 2.0, 1.0)
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


def test_parts_are_listed_and_strange_ones_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["altered", "--list"])
    altered.main()
    assert capsys.readouterr().out.splitlines() == list(altered.PARTS)
    monkeypatch.setattr("sys.argv", ["altered", "no schedule", "distill"])
    with pytest.raises(SystemExit):
        altered.main()
    assert "invalid choice: 'no schedule'" in capsys.readouterr().err
