"""Pretraining: small weights in half precision, which say what they come from and which training can start from."""

import threading
import time
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
import yaml
from dag import INFRASTRUCTURE, covers, reached
from project import copy_project
from samples import ROOT, params

from pretrain import backbone, student, teacher, together
from pretrain.together import Pool
from semdefect import CLASSES, network
from semdefect.edge.digest import SUMS, write_sums
from semdefect.errors import UserError
from semdefect.losses import LabelLoss
from semdefect.network import create_network, load_network, read_provenance, save_network
from semdefect.params import Pretrain, check_params, load_shaped
from semdefect.synthesis import RENDERER_VERSION

SMALL = "mobilenetv3_small_050"


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
        distill=tiny
        | {"fresh_per_class": 2, "epochs": backbone.PASSES, "int8_epochs": 1, "batch_size": 8, "real_share": 0.0},
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
    small = {"model": "mobilenetv3_small_050", "init": "scratch", "fresh_per_class": 1}
    checked = params(distill=small | changes)
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
    assert "training on 2 processes" in said and said.count("pretrain_student_int8 epoch 1 of 1") == 1
    made = project.folder / "semdefect/weights/mobilenetv3_small_050.safetensors"
    assert load_network(made).rounded and not (project.folder / ".scratch/pretrain_student").exists()


def test_no_two_draws_of_any_role_are_the_same():
    seeds = [backbone.seed_of(7, role, number) for role in backbone.ROLES for number in range(50)]
    assert len(set(seeds)) == len(seeds) and 7 not in seeds


@pytest.fixture
def beside(weights, monkeypatch):
    """Parameters of one step for `pretrain.together`, two networks of different sizes and a student."""
    monkeypatch.setattr(together, "VALIDATION", 1)
    monkeypatch.setattr(together, "SEM_WEIGHTS", weights)
    monkeypatch.setattr(joblib, "cpu_count", lambda: together._FREE_CORES + 2)  # so that processes draw
    content = yaml.safe_load((ROOT / "pretrain/params.yaml").read_text())
    small = {"init": "scratch", "resolution": 32}
    content["together"] |= {"minutes": 0.001, "pool": 1000, "fresh_size": 32, "resolution": 32, "batch_size": 8}
    content["together"] |= {"taught_from": 0.0, "precision": "fp32"}
    content["together"]["agreement"]["minutes"] = 0
    for name, model in (("larger", "convnext_atto"), ("teacher", "convnext_zepto_rms_ols"), ("student", SMALL)):
        content["together"][name] |= {"model": model, **small}
    return content


def threads_that_draw():
    return [thread for thread in threading.enumerate() if "_fill" in thread.name]


def numbered(label, seeds, size, without):
    """Images and masks that say which class they are of."""
    values = np.full((len(seeds), 1, 1), CLASSES.index(label) + 1)
    pixels = np.broadcast_to(values, (len(seeds), size, size)).astype(np.uint8)
    return pixels, np.broadcast_to(values % 2 == 0, (len(seeds), 32, 32)).copy()


def test_three_networks_learn_beside_each_other_and_two_are_kept(beside, weights, capsys):
    together.main(Pretrain(**beside))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " views: " in line]
    seen = int(line.split(" views: ")[0].split()[-1])
    assert seen >= 8 and all(f"{name} " in line.split(" views: ")[1] for name in ("larger", "teacher", "student"))
    assert {file.name for file in weights.iterdir()} == {
        f"{SMALL}.safetensors",
        "convnext_zepto_rms_ols.safetensors",
        SUMS,
    }
    for model in ("convnext_zepto_rms_ols", SMALL):
        origin = read_provenance(network.sem_weights(model))
        assert (origin["views"], origin["taught_by"]["model"]) == (seen, "convnext_atto")
        assert origin["rendered_images"] >= 8 and origin["base"]["precision"] == "fp32"
    assert not together.UNDERWAY.exists() and not threads_that_draw()


def test_a_later_run_starts_from_an_earlier_one_and_draws_other_images(beside, weights, monkeypatch):
    together.main(Pretrain(**beside))
    for name in ("teacher", "student"):
        beside["together"][name]["init"] = "sem"
    seeds = []
    monkeypatch.setattr(together, "Pool", lambda recipe, seed, device: seeds.append(seed) or Pool(recipe, seed, device))
    together.main(Pretrain(**beside))
    origin = read_provenance(weights / f"{SMALL}.safetensors")
    assert backbone.draws_before(origin) == 2 and origin["started_from"]["started_from"] == {}
    assert seeds == [backbone.seed_of(beside["base"]["seed"], "student", 1)]


def test_two_networks_learn_from_the_answers_of_the_first(beside):
    recipe, device = Pretrain(**beside).together, torch.device("cpu")

    def trained(alpha):
        torch.manual_seed(0)
        changed = recipe.model_copy(update={"alpha": alpha})
        learners = [together.learner_of(name, getattr(recipe, name), recipe, device) for name in ("larger", "student")]
        pool = SimpleNamespace(take=lambda size: pictures, labels=pictures[1], drawn=8)
        run = together.Run(changed, Pretrain(**beside).base, learners, pool, None)
        for share in (0.05, 0.05):
            run._step(share)
        return [torch.cat([value.flatten() for value in each.network.parameters()]) for each in learners]

    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (8, 1, 32, 32), generator=generator, dtype=torch.uint8)
    pictures = pixels, torch.arange(8), torch.zeros(8, 1, 32, 32, dtype=torch.bool)
    (first, alone), (again, taught) = trained(1.0), trained(0.5)
    assert torch.equal(first, again) and not torch.equal(alone, taught)


def test_the_student_then_agrees_and_is_written_between_before_and_after(beside, weights, monkeypatch, capsys):
    runs, drawn, start, learn = [], [], together.AgreementRun.__init__, together.Learner.learn

    def begun(self, before, record):
        start(self, before, record)
        runs.append((self, before))
        drawn.append(self.pool.drawn)

    monkeypatch.setattr(together.AgreementRun, "__init__", begun)
    monkeypatch.setattr(together.Learner, "learn", lambda self, loss, _: learn(self, loss, 0.5))  # the first is 0
    beside["together"]["agreement"] |= {"minutes": 0.001, "share": 0.25}
    seen = {}
    blended = together.AgreementRun.blended

    def watched(self):
        seen["after"] = deepcopy(self.learners[0].average.module)
        return blended(self)

    monkeypatch.setattr(together.AgreementRun, "blended", watched)
    together.main(Pretrain(**beside))
    ((run, before),) = runs
    made = network.load_network(weights / f"{SMALL}.safetensors")
    assert made.rounded and "the average of before and after" in capsys.readouterr().out
    triples = list(zip(run.before.parameters(), seen["after"].parameters(), made.parameters(), strict=True))
    assert any(not torch.equal(old, new) for old, new, _ in triples)
    for old, new, kept in triples:
        assert torch.allclose(kept, 0.75 * old + 0.25 * new, rtol=2**-10, atol=1e-6)  # half precision
    assert made.state_dict()["evidence.rounding_in._extra_state"].tolist() == [
        seen["after"].evidence.rounding_in.scale,
        seen["after"].evidence.rounding_in.zero,
    ]
    record = read_provenance(weights / f"{SMALL}.safetensors")
    earlier = record["started_from"]
    assert (record["views"], earlier["views"], record["averaged_with_start"]) == (run.views, before.views, 0.75)
    both = record["rendered_images"] + earlier["rendered_images"]  # the pool goes on drawing after the record is made
    assert run.drawn_before == earlier["rendered_images"] <= drawn[0] <= both <= run.pool.drawn
    assert record["taught_by"] == earlier["taught_by"] and record["taught_by"]["model"] == "convnext_atto"
    assert not network.load_network(weights / "convnext_zepto_rms_ols.safetensors").rounded


def test_without_minutes_the_student_agrees_beside_a_copy_of_itself(beside, weights, monkeypatch):
    start = create_network(SMALL, 32)
    save_network(start, weights.parent / "start.safetensors", {"rendered_images": 10**6, "recipe": {}})
    runs, seeds, begin, learn = [], [], together.AgreementRun.__init__, together.Learner.learn
    monkeypatch.setattr(together.AgreementRun, "__init__", lambda run, *rest: (runs.append(run), begin(run, *rest))[1])
    monkeypatch.setattr(together.Learner, "learn", lambda self, loss, _: learn(self, loss, 0.5))  # the first is 0
    monkeypatch.setattr(together, "Pool", lambda recipe, seed, device: seeds.append(seed) or Pool(recipe, seed, device))
    beside["together"]["minutes"] = 0
    beside["together"]["agreement"] |= {"minutes": 0.001, "share": 1.0}
    beside["together"]["student"]["init"] = str(weights.parent / "start.safetensors")
    beside["together"]["larger"]["model"] = beside["together"]["teacher"]["model"] = "resnet18"  # takes no part
    together.main(Pretrain(**beside))
    assert {file.name for file in weights.iterdir()} == {f"{SMALL}.safetensors", SUMS}
    made, record = (
        network.load_network(weights / f"{SMALL}.safetensors"),
        read_provenance(weights / f"{SMALL}.safetensors"),
    )
    teacher = runs[0].loss.task.teacher
    assert not teacher.rounded and torch.equal(teacher.evidence.bias, start.evidence.bias)
    assert made.rounded and not torch.equal(made.evidence.bias, start.evidence.bias.half().float())
    assert record["started_from"]["rendered_images"] == 10**6 and record["views"] == runs[0].views >= 8
    assert together.CALIBRATION <= record["rendered_images"] <= runs[0].pool.drawn
    assert record["taught_by"]["model"] == SMALL and record["averaged_with_start"] == record["recipe"]["minutes"] == 0
    assert seeds == [backbone.seed_of(beside["base"]["seed"], "student", 1)]
    assert not together.UNDERWAY.exists() and not threads_that_draw()


@pytest.mark.parametrize(
    "minutes, said",
    [
        (0, r"^together\.minutes and together\.agreement\.minutes are both 0"),
        (1, r"together\.student\.init is scratch"),
    ],
)
def test_without_minutes_nothing_is_made_of_nothing(beside, weights, minutes, said):
    beside["together"]["minutes"], beside["together"]["agreement"]["minutes"] = 0, minutes
    with pytest.raises(UserError, match=said):
        together.main(Pretrain(**beside))
    assert not weights.exists()


def test_what_rounding_adds_lies_where_the_weights_lie():
    made = together.with_int8_side(create_network(SMALL, 32).to("meta"))
    assert {value.device.type for value in (*made.parameters(), *made.buffers())} == {"meta"}


def test_where_agreement_fails_both_networks_are_there(beside, weights, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(together, "calibrate", broken)
    beside["together"]["agreement"]["minutes"] = 1
    with pytest.raises(RuntimeError, match="out of memory"):
        together.main(Pretrain(**beside))
    for model in (SMALL, "convnext_zepto_rms_ols"):
        assert not network.load_network(weights / f"{model}.safetensors").rounded
    assert not threads_that_draw()


def test_a_full_pool_holds_the_latest_images_each_with_its_own_label_and_mask(beside, monkeypatch):
    monkeypatch.setattr(together, "render_chunk", numbered)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 1)  # in this process, which knows of `numbered`
    recipe = Pretrain(**beside).together.model_copy(update={"pool": 1010})
    with together.Pool(recipe, 0, torch.device("cpu")) as pool:
        while pool.drawn < 5000:
            pixels, labels, masks = pool.take(64)
            assert torch.equal(pixels[:, 0, 0, 0].long(), labels + 1)
            assert torch.equal(masks[:, 0, 0, 0], labels % 2 == 1)
    assert len(pool.labels.unique()) == len(CLASSES)
    stopped = pool.drawn
    time.sleep(0.2)
    assert pool.drawn == stopped and not pool.thread.is_alive()


def test_drawing_waits_until_what_was_drawn_is_taken_in(beside, monkeypatch):
    asked, taken = [], threading.Event()

    def eager(jobs, workers):
        wanted = list(jobs)
        asked.extend(job[1][0] for job in wanted)
        return (job[0](*job[1]) for job in wanted)

    monkeypatch.setattr(together, "render_chunk", numbered)
    monkeypatch.setattr(together, "in_processes", eager)
    monkeypatch.setattr(together.Pool, "_add", lambda *_: taken.wait())
    monkeypatch.setattr(joblib, "cpu_count", lambda: together._FREE_CORES + 60)
    with together.Pool(Pretrain(**beside).together, 0, torch.device("cpu")) as pool:
        time.sleep(0.3)
        assert asked == list(CLASSES) * (60 * together._ROUND // len(CLASSES))
        pool.closed = True
        taken.set()


def test_what_stops_the_drawing_stops_the_training(beside, weights, monkeypatch):
    add = together.Pool._add

    def full(self, *chunk):
        if self.drawn >= 50:
            raise OSError("no room")
        add(self, *chunk)

    monkeypatch.setattr(together.Pool, "_add", full)
    beside["together"]["minutes"] = 5
    with pytest.raises(OSError, match="no room"):
        together.main(Pretrain(**beside))
    assert not weights.exists() and not threads_that_draw()


@pytest.mark.parametrize("name", ["larger", "teacher", "student"])
def test_a_network_that_there_is_not_is_named(beside, name):
    beside["together"][name]["model"] = "resnet18"
    with pytest.raises(UserError, match=rf"^together\.{name}\.model is 'resnet18'"):
        together.main(Pretrain(**beside))


def test_weights_with_an_int8_side_are_not_started_from(beside, tmp_path):
    rounded = create_network(SMALL, 32)
    rounded.add_rounding()
    save_network(rounded, tmp_path / "rounded.safetensors")
    beside["together"]["student"]["init"] = str(tmp_path / "rounded.safetensors")
    with pytest.raises(UserError, match=r"^together\.student\.init: .* INT8"):
        together.main(Pretrain(**beside))


def test_the_rate_rises_then_falls_and_weights_that_are_no_numbers_are_told(beside):
    recipe = Pretrain(**beside).together
    learner = together.learner_of("student", recipe.student, recipe, torch.device("cpu"))
    rates = []
    for share in (0.0, 0.025, 0.05, 0.5, 1.0):
        images = torch.rand(2, 1, 32, 32)
        learner.learn(learner.network(images).square().mean(), share)
        rates.append(learner.optimizer.param_groups[0]["lr"] / recipe.student.learning_rate)
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0], abs=0.01) and learner.updates == 5
    learner.average.module.evidence.bias.data.fill_(torch.nan)
    validation = SimpleNamespace(pixels=torch.zeros(2, 1, 32, 32, dtype=torch.uint8), labels=torch.zeros(2))
    with pytest.raises(UserError, match=r"^together\.student\.learning_rate is 0\.005 .*NaN"):
        learner.accuracy(validation)
