"""Pretraining: small weights in half precision, which say what they come from and which training can start from."""

import pytest
from samples import ROOT, params

from pretrain import backbone
from semdefect import network
from semdefect.network import create_network, read_provenance
from semdefect.params import Pretrain, load_shaped
from semdefect.synthesis import RENDERER_VERSION


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backbone, "SEM_WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(network, "SEM_WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(backbone, "VALIDATION", 1)
    return tmp_path / "weights"


def test_its_parameters_are_those_of_training():
    loaded = load_shaped(ROOT / "pretrain/params.yaml", Pretrain)
    assert loaded.teacher.real_share == loaded.student.real_share == 0


def test_a_tiny_run_writes_weights_that_training_starts_from(weights):
    tiny = {"model": "mobilenetv3_small_050", "init": "scratch", "resolution": 32, "start_resolution": 32}
    checked = params(
        distill=tiny | {"fresh_per_class": 2, "epochs": 3, "batch_size": 8, "real_share": 0.0},
        base={"threads": 1, "device": "cpu", "precision": "fp32"},
    )
    backbone.pretrain("student", checked.distill, checked.base)
    file = weights / "mobilenetv3_small_050.safetensors"
    origin = read_provenance(file)
    assert (origin["rendered_images"], origin["real_images"], origin["renderer"]) == (32, 0, RENDERER_VERSION)
    started = create_network("mobilenetv3_small_050", 64, "sem")
    assert started.resolution == 64
    scratch = sum(parameter.numel() for parameter in started.parameters())
    assert file.stat().st_size < 2.5 * scratch


def test_no_two_draws_of_any_role_are_the_same():
    seeds = [backbone.seed_of(7, role, number) for role in backbone.ROLES for number in range(50)]
    assert len(set(seeds)) == len(seeds) and 7 not in seeds
