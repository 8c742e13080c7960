"""What a user who mistypes params.yaml is told before any work starts."""

import os
import re

import pytest
import yaml
from samples import ROOT, params_content

from semdefect.errors import UserError
from semdefect.params import MAX_BYTES, Params, check_params, load_params


def fault(content) -> str:
    """The one sentence that ``content`` is refused with."""
    with pytest.raises(UserError) as refused:
        check_params(content, "params.yaml", Params)
    message = str(refused.value)
    assert message.startswith("params.yaml: ")
    assert "\n" not in message
    assert "pydantic" not in message.lower()
    return message


def changed(key: str, value):
    """The repository's parameters with one value changed; ``key`` is dotted."""
    content = params_content()
    *blocks, last = key.split(".")
    inner = content
    for block in blocks:
        inner = inner[block]
    inner[last] = value
    return content


def test_the_repositorys_own_parameters_are_valid():
    loaded = load_params(ROOT / "params.yaml")
    written = params_content()
    assert loaded.model_dump() == written


def test_whole_numbers_stand_for_floats():
    assert check_params(changed("distill.temperature", 4), "params.yaml", Params).distill.temperature == 4.0


@pytest.mark.parametrize(
    ("key", "value", "shown", "allowed"),
    [
        ("distill.temperature", 0, "0", "greater than 0"),
        ("distill.temperature", "high", "'high'", "number"),
        ("distill.temperature", float("inf"), "inf", "finite"),
        ("distill.temperature", float("nan"), "nan", "finite|greater than 0"),
        ("distill.temperature", None, "None", "number"),
        ("distill.alpha", 1.5, "1.5", "less than or equal to 1"),
        ("distill.alpha", -0.1, "-0.1", "greater than or equal to 0"),
        ("distill.alpha", True, "True", "number"),
        ("train_teacher.epochs", 6.0, "6.0", "integer"),
        ("train_teacher.epochs", 6.5, "6.5", "integer"),
        ("train_teacher.epochs", True, "True", "integer"),
        ("train_teacher.epochs", 0, "0", "greater than or equal to 1"),
        ("train_teacher.learning_rate", "2e-3", "'2e-3'", "number"),
        ("train_teacher.resolution", 225, "225", "less than or equal to 224"),
        ("train_teacher.model", 5, "5", "string"),
        ("train_teacher.model", "resnet18", "'resnet18'", "begin with convnext"),
        ("distill.model", "convnext_atto", "'convnext_atto'", "begin with mobilenetv3"),
        ("train_teacher.hub_revision", "a b", "'a b'", "pattern"),
        ("base.seed", -1, "-1", "greater than or equal to 0"),
        ("base.device", "tpu", "'tpu'", "'auto', 'cpu', 'cuda' or 'mps'"),
        ("synthesize.images_per_class", 7, "7", "greater than or equal to 8"),
        ("export_onnx.target_purity", 1, "1", "less than 1"),
        ("evaluate.fresh_per_class", -1, "-1", "greater than or equal to 0"),
        ("evaluate.fresh_per_class", "many", "'many'", "integer, written like 300"),
        ("evaluate.noisy.contrast", 0, "0", "greater than 0"),
        ("evaluate.noisy", 3, "3", "dictionary"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(key, value, shown, allowed):
    message = fault(changed(key, value))
    assert f"{key} is {shown}: " in message
    assert re.search(allowed, message)


def test_a_number_that_yaml_reads_as_text_is_refused(tmp_path):
    # YAML 1.1 wants a dot in 2.0e-3; without it the value arrives as text and must not pass for a number.
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("learning_rate: 0.0001", "learning_rate: 2e-3", 1), encoding="utf-8")
    with pytest.raises(UserError, match=r"train_teacher\.learning_rate is '2e-3': .*number"):
        load_params(path)


def test_cells_without_masks_are_refused():
    content = params_content()
    content["distill"] |= {"cell_weight": 0.5, "fresh_per_class": 0}
    assert "distill: cell_weight 0.5 needs masks, which fresh images alone have" in fault(content)
    content["distill"]["fresh_per_class"] = 1
    assert check_params(content, "params.yaml", Params).distill.cell_weight == 0.5


def test_splits_that_do_not_sum_to_one_are_refused():
    message = fault(changed("split.train", 0.8))
    assert "split" in message
    assert "train + val + test is 1.1 and must be 1" in message


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("tempreature", "base, synthesize, split, train_teacher, distill, export_onnx, evaluate"),
        ("distill.tempreature", "alpha, temperature"),
        ("evaluate.noisy.blurr", "shot_noise, blur, contrast, drift, charging"),
    ],
)
def test_an_unknown_key_is_named_with_what_is_allowed_there(key, allowed):
    message = fault(changed(key, 1))
    assert f"{key} is not a parameter" in message
    assert allowed in message


@pytest.mark.parametrize("key", ["distill", "distill.alpha", "evaluate.noisy.blur"])
def test_a_missing_key_is_named(key):
    content = params_content()
    *blocks, last = key.split(".")
    inner = content
    for block in blocks:
        inner = inner[block]
    del inner[last]
    assert f"{key} is missing" in fault(content)


def test_all_faults_are_named_at_once():
    content = changed("distill.alpha", 1.5)
    content["base"]["seeed"] = 3
    content["train_teacher"]["epochs"] = "six"
    del content["split"]["val"]
    message = fault(content)
    for key in ("distill.alpha is 1.5", "base.seeed is not", "train_teacher.epochs is 'six'", "split.val is missing"):
        assert key in message


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(content):
    assert "dictionary" in fault(content)


def test_a_stage_run_elsewhere_says_where_to_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"params\.yaml is not in .*run stages from the repository's root") as refused:
        load_params()
    assert str(tmp_path) in str(refused.value)


def test_another_file_that_is_missing_or_empty_is_named_without_talk_of_the_repository(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml is not there: check the path"):
        load_params(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").touch()
    with pytest.raises(UserError, match=r"empty\.yaml holds no parameters: start from a copy of params\.yaml"):
        load_params(tmp_path / "empty.yaml")


def test_workers_are_no_more_than_any_machine_has():
    """All of them start at once."""
    message = fault(changed("synthesize.workers", 257))
    assert "synthesize.workers" in message and "256" in message


def test_a_key_that_stands_twice_is_refused(tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "twice.yaml").write_text(text.replace("  alpha:", "  alpha: 0.9\n  alpha:"), encoding="utf-8")
    with pytest.raises(UserError, match=r"twice\.yaml .*alpha stands twice"):
        load_params(tmp_path / "twice.yaml")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("train_teacher.model", "resnet18", "convnext"),
        ("distill.model", "resnet18", "mobilenetv3"),
        ("train_teacher.init", "gone.safetensors", "scratch, sem, imagenet"),
        ("distill.init", "gone.safetensors", "scratch, sem, imagenet"),
    ],
)
def test_networks_of_another_kind_are_refused_before_any_work(key, value, allowed):
    message = fault(changed(key, value))
    assert value in message and allowed in message


@pytest.mark.parametrize("content", [b"base: [1\nsplit: }", b"\xff\xfe\x00bad", b"base:\n\tseed: 1\n"])
def test_a_file_that_is_no_yaml_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as refused:
        load_params(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_checked_can_be_written_again(tmp_path):
    path = tmp_path / "params.yaml"
    loaded = load_params(ROOT / "params.yaml")
    path.write_text(yaml.safe_dump(loaded.model_dump()), encoding="utf-8")
    assert load_params(path) == loaded


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("base: &a {seed: 1}\nsplit: *a\n", "aliases"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),  # billions of entries in a few lines
        ("a: &a {x: 1}\nb: {<<: [*a, *a]}\n", "aliases"),
        ("base: " + "[" * 30 + "]" * 30, "nested too deeply"),
        ("base: " + "[" * 5000, "nested too deeply"),  # Python's own limit is no YAML error
        ("base: " + "9" * 5000, "digits"),  # nor is that of its numbers
        ("base: {seed: 0x" + "f" * 5000 + "}", "more than 64 bits"),  # nor what it prints
        ("base: {seed: 1" + ":1" * 4000 + "}", "more than 64 bits"),  # to the base of 60
        ("base:\n  ? 0x" + "f" * 5000 + "\n  : 3", "more than 64 bits"),  # as a key neither
        ("base: {seed: 1" + ":1" * 4000 + ".0}", "too large to convert to float"),
        ("base: 2026-99-99", "month"),  # nor that of its dates
        ("base: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("x" * (MAX_BYTES + 1), "larger than 64 KiB"),
        ("base: !!bool x", "explicit tag"),  # PyYAML raises KeyError, IndexError and AttributeError
        ("base: !!int ''", "explicit tag"),
        ("base: !!float ''", "explicit tag"),
        ("base: !!timestamp x", "explicit tag"),
    ],
)
def test_yaml_that_harms_is_refused_in_one_short_sentence(tmp_path, text, fault):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"params\.yaml cannot be read as YAML: .*{fault}") as refused:
        load_params(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


def test_a_start_file_with_a_name_that_no_system_takes_is_named_with_its_key():
    message = fault(changed("distill.init", "a" * 5000))
    assert "distill.init: there is no file 'aaa" in message and len(message) < 300
    assert "distill.init: there is no file" in fault(changed("distill.init", "a\0b"))


def test_a_pipe_is_no_parameter_file(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(UserError, match=r"params\.yaml cannot be read as YAML: it is no regular file"):
        load_params(tmp_path / "params.yaml")


def test_of_many_faults_some_are_told(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("".join(f"k{number}: 1\n" for number in range(500)))
    with pytest.raises(UserError, match=r"and 503 more$"):  # 7 blocks are missing
        load_params(path)


def test_a_long_key_is_not_repeated_in_the_message():
    assert len(fault(params_content() | {"k" * 10_000: 1})) < 300


def test_a_long_value_is_not_repeated_in_the_message(tmp_path):
    assert len(fault(changed("train_teacher.optimizer", "x" * 10_000))) < 300
