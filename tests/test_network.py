"""Networks: gray images in, logits out; checkpoints that are the same everywhere and say when they are not ours."""

import json
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from samples import ROOT, image_set, rounded_network, texture, tiny_network
from torch import nn

from semdefect import network as library
from semdefect.edge.digest import SUMS, write_sums
from semdefect.errors import UserError
from semdefect.network import (
    check_architecture,
    create_network,
    load_network,
    predict,
    read_provenance,
    save_network,
    standardise,
    weights_hash,
)

TEACHER, STUDENT = "convnext_atto", "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def student():
    return tiny_network(STUDENT)


@pytest.fixture(scope="module")
def images():
    return torch.stack([torch.from_numpy(texture(seed, 224)) for seed in range(4)])[:, None].float() / 255


@pytest.mark.parametrize("model", [TEACHER, STUDENT])
@pytest.mark.parametrize("side", [32, 48, 224])
def test_any_input_side_gives_one_finite_logit_a_class(model, side):
    with torch.inference_mode():
        logits = create_network(model, 32).eval()(torch.rand(2, 1, side, side))
    assert logits.shape == (2, 8)
    assert torch.isfinite(logits).all()


def test_flat_images_give_finite_logits(student):
    with torch.inference_mode():
        assert torch.isfinite(student(torch.cat([torch.zeros(1, 1, 224, 224), torch.ones(1, 1, 224, 224)]))).all()


@pytest.mark.parametrize(("contrast", "brightness"), [(1.0, 0.2), (0.4, 0.0), (0.5, 0.4), (-0.5, 0.8)])
def test_brightness_and_contrast_do_not_change_the_answer(student, images, contrast, brightness):
    with torch.inference_mode():
        plain, changed = student(images), student(images * contrast + brightness)
        others = student(images.flip(0))
    distance = float((plain - changed).abs().max())
    if contrast > 0:
        assert distance < 0.25 * float((plain - others).abs().max())
        assert torch.equal(plain.argmax(1), changed.argmax(1))
    else:  # a negative is another picture
        assert distance > 0.25 * float((plain - others).abs().max())


def test_pixels_far_from_all_others_count_as_if_they_were_four_deviations_away(images):
    image = images[:1].clone()
    image[..., 100:104, 100:104] = 20.0  # at full scale 1: more than 30 deviations once it is standardised
    standard = standardise(image)
    assert float(standard.max()) == 4.0
    assert float(standardise(-image).min()) == -4.0
    rest = standard[..., :90, :]
    expected = (image - image.mean()) / image.std(correction=0)
    assert torch.allclose(rest, expected[..., :90, :], atol=1e-4)


def test_a_full_size_image_and_its_resized_copy_get_the_same_answer(student, images):
    small = nn.functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        assert torch.allclose(student(images), student(small), rtol=1e-3, atol=1e-3)


def test_each_image_is_judged_alone(student):
    pixels = image_set(2).pixels
    together = predict(student, pixels)
    alone = torch.cat([predict(student, pixels[i : i + 1]) for i in range(len(pixels))])
    assert torch.allclose(together, alone, rtol=1e-3, atol=1e-3)
    assert torch.allclose(together, predict(student, pixels, batch_size=3), rtol=1e-3, atol=1e-3)


def test_a_checkpoint_comes_back_with_architecture_resolution_and_weights(student, tmp_path):
    save_network(student, tmp_path / "new" / "model.safetensors")
    loaded = load_network(tmp_path / "new" / "model.safetensors")
    assert (loaded.model, loaded.resolution, loaded.training) == (STUDENT, 32, False)
    pixels = image_set(1).pixels
    assert torch.equal(predict(loaded, pixels), predict(student, pixels))


def test_saving_gives_the_same_bytes_each_time_and_in_each_process(student, tmp_path):
    first = tmp_path / "first.safetensors"
    save_network(student, first)
    again = tmp_path / "again.safetensors"
    save_network(load_network(first), again)
    other = tmp_path / "elsewhere" / "third.safetensors"
    code = "import sys, pathlib; from semdefect.network import *; a, b = map(pathlib.Path, sys.argv[1:])\n"
    code += "save_network(load_network(a), b)"
    subprocess.run([sys.executable, "-c", code, str(first), str(other)], cwd=ROOT, check=True)
    assert first.read_bytes() == again.read_bytes() == other.read_bytes()


def test_equal_seeds_build_equal_networks():
    built = []
    for _ in range(2):
        torch.manual_seed(4)
        built.append(create_network(STUDENT, 32).state_dict())
    assert all(torch.equal(built[0][name], built[1][name]) for name in built[0])


def foreign(path):
    save_file({"weight": torch.zeros(3)}, path)


def other_metadata(path):
    save_file({"weight": torch.zeros(3)}, path, metadata={"semdefect": '{"model": "convnext_atto", "resolution": 32}'})


def cut_off(path):
    save_network(tiny_network(STUDENT), path)
    path.write_bytes(path.read_bytes()[:100_000])


def no_tensors(path):
    path.write_text("weights")


@pytest.mark.parametrize("write", [foreign, other_metadata, cut_off, no_tensors])
def test_what_is_no_checkpoint_of_this_project_is_refused_by_name(write, tmp_path):
    path = tmp_path / "model.safetensors"
    write(path)
    with pytest.raises(UserError, match="is not a checkpoint of this project") as refused:
        load_network(path)
    assert str(path) in str(refused.value)


def test_a_missing_checkpoint_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"model\.safetensors is missing: run `dvc repro`"):
        load_network(tmp_path / "model.safetensors")


def test_training_can_start_from_a_checkpoint_at_another_resolution(student, tmp_path):
    path = tmp_path / "model.safetensors"
    save_network(student, path)
    started = create_network(STUDENT, 64, str(path))
    assert started.resolution == 64
    assert all(torch.equal(tensor, student.state_dict()[name]) for name, tensor in started.state_dict().items())


def test_a_checkpoint_of_another_architecture_is_refused(student, tmp_path):
    path = tmp_path / "model.safetensors"
    save_network(student, path)
    with pytest.raises(UserError, match=f"holds a {STUDENT}, not a {TEACHER}"):
        create_network(TEACHER, 32, str(path))


def test_a_misspelt_start_is_told_as_a_missing_file():
    with pytest.raises(UserError, match="imagnet is missing"):
        create_network(TEACHER, 32, "imagnet")


@pytest.mark.parametrize(
    "failure", [ConnectionError("Max retries exceeded\nwith url"), OSError(101, "unreachable"), RuntimeError("no tag")]
)
def test_without_the_hub_the_alternatives_are_named_in_one_sentence(monkeypatch, failure):
    def unreachable(*_, **__):
        raise failure

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    with pytest.raises(UserError) as refused:
        create_network(TEACHER, 32, "imagenet", key="train_teacher.init")
    message = str(refused.value)
    assert "\n" not in message
    assert message.startswith("train_teacher.init: imagenet needs the weights of convnext_atto")
    assert "scratch" in message
    assert ".safetensors" in message


def test_hub_weights_come_from_the_one_commit_that_the_revision_means(monkeypatch, capsys):
    """A hub stands in that answers with ones."""
    real = timm.create_model

    def hub(model, pretrained=False, pretrained_cfg_overlay=None, **options):
        network = real(model, **options)
        if pretrained:
            assert pretrained_cfg_overlay["hf_hub_id"].endswith("@0123abc")
            for parameter in network.parameters():
                nn.init.ones_(parameter)
        return network

    def info(_, repository, revision, timeout):
        assert repository.startswith(f"timm/{TEACHER}") and revision == "v1"
        return SimpleNamespace(sha="0123abc")

    monkeypatch.setattr(timm, "create_model", hub)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", info)
    loaded = create_network(TEACHER, 32, "imagenet", "v1")
    weights = {name: parameter for name, parameter in loaded.backbone.named_parameters() if "head.fc" not in name}
    assert all((parameter == 1).all() for parameter in weights.values())
    assert "hub_revision=0123abc" in capsys.readouterr().out


def test_weights_of_timm_itself_start_a_network_from_a_file(tmp_path):
    source = timm.create_model(TEACHER)  # three channels in, a thousand classes out, as on the hub
    save_file(source.state_dict(), tmp_path / "timm.safetensors")
    network = create_network(TEACHER, 32, str(tmp_path / "timm.safetensors"))
    expected = source.stages[3].blocks[0].mlp.fc1.weight
    assert torch.equal(network.backbone.stages[3].blocks[0].mlp.fc1.weight, expected)
    assert network(torch.rand(1, 1, 224, 224)).shape == (1, 8)


@pytest.mark.parametrize("model", [TEACHER, STUDENT])
def test_weights_of_one_channel_and_few_classes_start_a_network_too(tmp_path, model):
    source = timm.create_model(model, in_chans=1, num_classes=0)
    few = {name: value for name, value in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    save_file(few, tmp_path / "timm.safetensors")
    loaded = create_network(model, 32, str(tmp_path / "timm.safetensors")).backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in few.items())


def _one(name):
    return lambda tensors: {name: torch.zeros(3)}


@pytest.mark.parametrize(
    "change",
    [
        _one("a.b.c.d"),
        _one(""),
        _one("model"),
        _one("state_dict"),
        _one("head.weight"),
        lambda tensors: dict(list(tensors.items())[:-5]),
        lambda tensors: tensors | {"more.weight": torch.zeros(3)},
        lambda tensors: tensors | {name: torch.zeros(7) for name in list(tensors)[:1]},
        lambda tensors: (
            tensors | {f"{name}.{last}": torch.zeros(0) for name in ("head.fc", "classifier") for last in "abc"}
        ),
    ],
)
@pytest.mark.parametrize("model", [TEACHER, STUDENT])
def test_a_start_file_of_other_tensors_is_refused(tmp_path, model, change):
    """timm took what it knew and drew the rest at random, or failed where it took a tensor for a dictionary."""
    save_file(change(timm.create_model(model).state_dict()), tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=rf"init: .*other\.safetensors does not hold the weights of {model} under"):
        create_network(model, 32, str(tmp_path / "other.safetensors"))


def test_a_start_file_of_many_tensors_is_refused(tmp_path):
    """A header of 25 MB, of 400 000 empty tensors, took 31 s and 1.5 GB."""
    save_file({f"{number}": torch.zeros(0) for number in range(80_000)}, tmp_path / "many.safetensors")
    with pytest.raises(UserError, match=r"many\.safetensors has a header of \d+ bytes"):
        create_network(TEACHER, 32, str(tmp_path / "many.safetensors"))


@pytest.mark.parametrize("content", [b"", b"no tensors at all", None])
def test_a_start_file_that_does_not_fit_is_refused(tmp_path, content):
    path = tmp_path / "start.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"train_teacher\.init: .*start\.safetensors .*scratch, sem, imagenet"):
        create_network(TEACHER, 32, str(path), key="train_teacher.init")


def test_the_first_logits_are_small():
    """Of random weights eight classes are about equally likely, whatever number of classes timm draws them for."""
    torch.manual_seed(0)
    for model in (TEACHER, STUDENT):
        logits = create_network(model, 32).train()(torch.rand(16, 1, 64, 64))
        assert float(logits.detach().std()) < 1


@pytest.mark.parametrize(
    ("model", "family"),
    [("convnext_atto", "convnext"), ("convnext_tiny", "convnext"), ("mobilenetv3_small_100", "mobilenetv3")],
)
def test_architectures_of_the_family_are_accepted(model, family):
    check_architecture(model, family, "distill.model")


@pytest.mark.parametrize("model", ["resnet18", "mobilenetv3_small", "convnext_atto", ""])
def test_other_architectures_are_refused_with_some_that_are_allowed(model):
    with pytest.raises(UserError, match=r"distill\.model is '.*', which is no mobilenetv3") as refused:
        check_architecture(model, "mobilenetv3", "distill.model")
    assert "mobilenetv3_small_100" in str(refused.value)
    assert repr(model) in str(refused.value)


def test_half_the_size_and_where_it_comes_from(student, images, tmp_path):
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_network(student, full)
    save_network(student, half, {"rendered_images": 5}, half=True)
    assert half.stat().st_size < 0.6 * full.stat().st_size
    assert read_provenance(half) == {"rendered_images": 5} and read_provenance(full) == {}
    restored = load_network(half)
    assert {tensor.dtype for tensor in restored.parameters()} == {torch.float32}
    with torch.inference_mode():
        plain = student(images)
        assert float((restored(images) - plain).abs().max()) < 0.05 * float(plain.std())


def test_sem_weights_are_taken_from_the_package_and_missing_ones_named(student, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "SEM_WEIGHTS", tmp_path)
    with pytest.raises(UserError, match=rf"distill\.init: sem has no weights for {STUDENT}, only for no model"):
        create_network(STUDENT, 48, "sem", key="distill.init")
    save_network(student, tmp_path / f"{STUDENT}.safetensors", {}, half=True)
    started = create_network(STUDENT, 48, "sem")
    assert started.resolution == 48
    expected = student.state_dict()
    assert all(torch.allclose(value, expected[name], atol=1e-2) for name, value in started.state_dict().items())
    assert weights_hash(STUDENT, "sem") == library.file_sha256(tmp_path / f"{STUDENT}.safetensors")
    assert weights_hash(STUDENT, "scratch") == "scratch"


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), RuntimeError, "can't allocate memory"),
        (KeyError("out of memory"), UserError, r"student\.safetensors is not a checkpoint of .* \(KeyError\)"),
    ],
    ids=["memory ran out", "a file that talks of it"],
)
def test_memory_that_runs_out_is_no_fault_of_the_file(student, tmp_path, monkeypatch, raised, expected, words):
    path = tmp_path / "student.safetensors"
    save_network(student, path)

    def no_memory(*_):
        raise raised

    monkeypatch.setattr(library, "load_file", no_memory)
    for load in (lambda: load_network(path), lambda: create_network(STUDENT, 48, str(path))):
        with pytest.raises(expected, match=words):
            load()


def test_training_goes_on_from_a_finished_student_without_its_score_of_unknown_images(tmp_path):
    path = tmp_path / "student.safetensors"
    save_network(rounded_network(), path)
    started = create_network("mobilenetv3_small_050", 96, str(path))
    assert started.rounded and started.unknown is None and started.resolution == 96


@pytest.mark.parametrize("model", ["mobilenetv3_small_050", "mobilenetv3_large_075"])
def test_a_fast_student_is_the_first_blocks_and_comes_back_from_its_file(images, tmp_path, model):
    whole, fast = rounded_network(model), rounded_network(model)
    fast.shorten()
    assert sum(map(torch.numel, fast.parameters())) < sum(map(torch.numel, whole.parameters())) / 2
    for name, weight in fast.state_dict().items():
        if not name.startswith("short_head"):
            assert torch.equal(weight, whole.state_dict()[name])
    logits, unknown = fast.answers(images)
    assert torch.equal(logits, fast(images)) and logits.shape == (len(images), 8) and unknown.shape == (len(images),)
    assert fast(images, with_cells=True)[1].shape == whole(images, with_cells=True)[1].shape
    save_network(fast, tmp_path / "fast.safetensors")
    assert torch.equal(load_network(tmp_path / "fast.safetensors")(images), fast(images))
    with pytest.raises(UserError, match=r"distill.init: .*fast\.safetensors holds a fast student"):
        create_network(model, 64, str(tmp_path / "fast.safetensors"), key="distill.init")


def test_weights_of_the_package_that_were_changed_are_refused(student, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "SEM_WEIGHTS", tmp_path)
    path = tmp_path / f"{STUDENT}.safetensors"
    save_network(student, path, {}, half=True)
    write_sums([path])
    create_network(STUDENT, 48, "sem")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{STUDENT}.safetensors: has been changed since"):
        create_network(STUDENT, 48, "sem")


def test_the_packages_own_weights_are_those_of_the_list():
    for path in library.SEM_WEIGHTS.glob("*.safetensors"):
        assert library.sem_weights(path.stem) == path
    assert (library.SEM_WEIGHTS / SUMS).is_file()


def test_only_safetensors_are_read_as_weights(student, tmp_path):
    """timm chooses the format by the name, and would unpickle any other."""
    path = tmp_path / "weights.pth"
    save_network(student, path)
    with pytest.raises(UserError, match=r"weights\.pth does not end in \.safetensors"):
        create_network(STUDENT, 32, str(path))


@pytest.mark.parametrize(
    "about", [{"model": "convnext_xxlarge"}, {"model": "mobilenetv3_large_150d"}, {"unknown": True}]
)
def test_a_checkpoint_is_not_built_before_its_tensors_fit(student, tmp_path, monkeypatch, about):
    """A file of a megabyte may claim to be a network of gigabytes."""
    save_network(student, tmp_path / "honest.safetensors")
    said = {"model": STUDENT, "resolution": 32, "rounded": False, "short": False, "unknown": False} | about
    tensors = load_file(tmp_path / "honest.safetensors")
    save_file(tensors, tmp_path / "claims.safetensors", metadata={"semdefect": json.dumps(said)})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_network(tmp_path / "claims.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_weight_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    with path.open("wb") as file:
        file.truncate(library.MAX_BYTES + 1)
    with pytest.raises(UserError, match=r"w\.safetensors is larger than 4 GiB"):
        create_network(STUDENT, 32, str(path))


@pytest.mark.parametrize(
    "about",
    [
        {"model": "hf-hub:someone/mobilenetv3"},
        {"model": "local-dir:secret"},
        {"model": f"{STUDENT}.lamb_in1k"},
        {"model": "resnet18"},
        {"model": ["mobilenetv3_small_050"]},
        {"resolution": 31},
        {"resolution": 10**6},
        {"resolution": 32.0},
        {"resolution": True},
        {"resolution": "32"},
    ],
)
def test_a_checkpoint_that_claims_to_be_something_else_is_not_given_to_timm(student, tmp_path, monkeypatch, about):
    """timm takes names that lead to a hub, or to any folder."""
    save_network(student, tmp_path / "honest.safetensors")
    said = {"model": STUDENT, "resolution": 32, "rounded": False, "short": False, "unknown": False} | about
    tensors = load_file(tmp_path / "honest.safetensors")
    save_file(tensors, tmp_path / "claims.safetensors", metadata={"semdefect": json.dumps(said)})
    monkeypatch.setattr(library.timm, "create_model", lambda *_, **__: pytest.fail("given to timm"))
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_network(tmp_path / "claims.safetensors")
