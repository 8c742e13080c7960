"""Pretraining: small weights in half precision, which say what they come from and which training can start from."""

from pathlib import Path

import pytest
import yaml
from dag import INFRASTRUCTURE, covers, reached
from project import copy_project
from samples import ROOT, params

from pretrain import backbone, student, teacher
from semdefect import network
from semdefect.edge.digest import SUMS, write_sums
from semdefect.errors import UserError
from semdefect.losses import LabelLoss
from semdefect.network import create_network, load_network, read_provenance
from semdefect.params import Pretrain, check_params, load_shaped
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
        distill=tiny | {"fresh_per_class": 2, "epochs": backbone.PASSES + 1, "batch_size": 8, "real_share": 0.0},
        base={"threads": 1, "device": "cpu", "precision": "fp32"},
    )
    backbone.pretrain("student", checked.distill, checked.base, LabelLoss(1.0))
    file = weights / "mobilenetv3_small_050.safetensors"
    origin = read_provenance(file)
    assert (origin["rendered_images"], origin["real_images"], origin["renderer"]) == (32, 0, RENDERER_VERSION)
    started = create_network("mobilenetv3_small_050", 64, "sem")
    assert started.resolution == 64
    scratch = sum(parameter.numel() for parameter in started.parameters())
    assert file.stat().st_size < 2.5 * scratch


def test_training_says_what_it_started_from_even_where_it_writes_to_the_same_file(weights):
    tiny = {"model": "mobilenetv3_small_050", "resolution": 32, "start_resolution": 32, "fresh_per_class": 2}
    first = params(distill=tiny | {"init": "scratch", "epochs": 1}, base={"threads": 1, "device": "cpu"})
    backbone.pretrain("student", first.distill, first.base, LabelLoss(1.0))
    second = params(distill=tiny | {"init": "sem", "epochs": 1}, base={"threads": 1, "device": "cpu", "seed": 5})
    backbone.pretrain("student", second.distill, second.base, LabelLoss(1.0))
    origin = read_provenance(weights / "mobilenetv3_small_050.safetensors")
    assert (origin["base"]["seed"], origin["started_from"]["base"]["seed"]) == (5, first.base.seed)
    assert origin["started_from"]["started_from"] == {}


def test_other_weights_that_were_changed_do_not_become_good(weights):
    tiny = {"model": "mobilenetv3_small_050", "resolution": 32, "start_resolution": 32, "fresh_per_class": 2}
    checked = params(distill=tiny | {"init": "scratch", "epochs": 1}, base={"threads": 1, "device": "cpu"})
    weights.mkdir()
    other = weights / "convnext_atto.safetensors"
    other.write_text("good")
    write_sums([other])
    line = (weights / SUMS).read_text()
    backbone.pretrain("student", checked.distill, checked.base, LabelLoss(1.0))
    assert line in (weights / SUMS).read_text()
    network.sem_weights("mobilenetv3_small_050")
    other.write_text("bad")
    with pytest.raises(UserError, match=r"convnext_atto\.safetensors: has been changed .*git checkout"):
        backbone.pretrain("student", checked.distill, checked.base, LabelLoss(1.0))


def test_weights_that_are_trained_on_see_new_images():
    first = {"rendered_images": 80, "recipe": {"fresh_per_class": 5}, "started_from": {}}
    second = {"rendered_images": 24, "recipe": {"fresh_per_class": 3}, "started_from": first}
    assert [backbone.draws_before(record) for record in ({}, first, second)] == [0, 2, 3]


def test_the_teacher_learns_from_the_students_weights_and_says_so(weights):
    tiny = {
        "resolution": 32,
        "start_resolution": 32,
        "fresh_per_class": 2,
        "fresh_size": 32,
        "epochs": 1,
        "batch_size": 8,
    }
    content = yaml.safe_load((ROOT / "pretrain/params.yaml").read_text())
    content["student"] |= tiny | {"model": "mobilenetv3_small_050"}
    content["student"]["init"] = "scratch"
    content["teacher"] |= tiny | {"model": "convnext_atto", "alpha": 0.5}
    checked = check_params(content, "pretrain/params.yaml", Pretrain)
    with pytest.raises(UserError, match=r"teacher\.alpha: sem has no weights for mobilenetv3_small_050"):
        teacher.main(checked)
    alone = checked.model_copy(update={"teacher": checked.teacher.model_copy(update={"alpha": 1.0})})
    teacher.main(alone)
    assert read_provenance(weights / "convnext_atto.safetensors")["taught_by"] == {}
    student.main(checked)
    teacher.main(checked)
    origin = read_provenance(weights / "convnext_atto.safetensors")
    assert origin["taught_by"]["recipe"]["model"] == "mobilenetv3_small_050"
    assert read_provenance(weights / "mobilenetv3_small_050.safetensors")["taught_by"] == {}


def test_the_side_pipeline_lists_what_its_scripts_use():
    listed = yaml.safe_load((ROOT / "pretrain/dvc.yaml").read_text())["stages"]
    assert set(listed) <= set(backbone.ROLES)
    for role in listed:
        used = reached(Path("pretrain") / f"{role}.py") - INFRASTRUCTURE
        assert not [file for file in used if not any(covers(name, file) for name in listed[role]["deps"])]
        (weights,) = listed[role]["outs"]
        ((path, options),) = weights.items()
        assert options == {"cache": False, "persist": True}  # not deleted before hours of training
        assert (ROOT / path).stat().st_size <= 8_000_000
        assert Path(path).stem == getattr(load_shaped(ROOT / "pretrain/params.yaml", Pretrain), role).model


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model": "mobilenetv3_none"}, r"^student\.model is 'mobilenetv3_none'"),
        ({"fresh_per_class": 0}, r"^student\.fresh_per_class is 0"),
        ({"init": str(ROOT / "README.md")}, r"^student\.init: .*README\.md does not end in"),
    ],
)
def test_what_cannot_be_pretrained_is_said_before_images_are_rendered(weights, monkeypatch, changes, fault):
    monkeypatch.setattr(backbone, "fresh_images", None)
    checked = params(distill={"model": "mobilenetv3_small_050", "init": "scratch"} | changes)
    with pytest.raises(UserError, match=fault):
        backbone.pretrain("student", checked.distill, checked.base, LabelLoss(1.0))
    assert not weights.exists()


def test_several_processes_share_the_images_that_one_draws(tmp_path):
    project = copy_project(tmp_path / "project")
    path = project.folder / backbone.PARAMS
    content = yaml.safe_load(path.read_text())
    content["student"] |= {
        "model": "mobilenetv3_small_050", "init": "scratch", "resolution": 32, "start_resolution": 32, "fresh_size": 32,
        "fresh_per_class": 2, "batch_size": 8, "epochs": 1, "int8_epochs": 1,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    project.run("git", "init", "-q", "-b", "main")
    project.commit("start")
    said = project.run("accelerate", "launch", "--num_processes", "2", "--cpu", "-m", "pretrain.student").stdout
    assert "training on 2 processes" in said and said.count("pretrain_student_int8 epoch 1/1") == 1
    made = project.folder / "semdefect/weights/mobilenetv3_small_050.safetensors"
    assert load_network(made).rounded and not (project.folder / ".scratch/pretrain_student").exists()


def test_no_two_draws_of_any_role_are_the_same():
    seeds = [backbone.seed_of(7, role, number) for role in backbone.ROLES for number in range(50)]
    assert len(set(seeds)) == len(seeds) and 7 not in seeds
