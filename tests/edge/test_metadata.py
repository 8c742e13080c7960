import json

import pytest
from conftest import guard, metadata

from semdefect import CLASSES
from semdefect.edge.metadata import ModelMetadata
from semdefect.errors import UserError


def test_round_trip_is_exact_and_deterministic():
    written = metadata(temperature=1.37, guard=guard(1.5), precision="int8-weights", classes=list(CLASSES))
    text = written.to_json()
    assert ModelMetadata.from_json(text) == written
    assert ModelMetadata.from_json(text).to_json() == text
    content = json.loads(text)
    assert list(content) == sorted(content)
    assert content["format"] == 2 and content["classes"] == list(CLASSES)
    assert content["preprocessing"] == {"mode": "L", "size": 224, "resample": "bilinear", "range": [0, 1]}
    assert content["guard"] == {"thresholds": [1.5] * 8, "unknown": 0.5, "target_purity": 0.99, "confidence": 0.9}


def test_keys_of_a_later_version_are_ignored():
    content = json.loads(metadata().to_json()) | {"author": "me"}
    assert ModelMetadata.from_json(json.dumps(content)) == metadata()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("format", [0, 1, "2", True, None]),
        ("classes", [[], ["a"], ["a", "a"], ["a", ""], ["a", 1], "ab", None, {"a": 1, "b": 2}]),
        ("classes", [["a", "../b"], ["a", "/b"], ["a", "b\0"], ["a", ".b"], ["a", "b c"], ["a", "b" * 65]]),
        ("preprocessing", [None, {}, {"mode": "L", "size": 128, "resample": "bilinear", "range": [0, 1]}]),
        ("temperature", [0, -1, "1", None, True, float("nan"), float("inf"), 10**400, [1]]),
        ("guard", [None, 0.9, {}, {"thresholds": [0.9] * 8}]),
        ("precision", ["int4", "FP32", None, []]),
        ("checkpoint_sha256", ["", "ab", "g" * 64, "A" * 64, 64, None]),
    ],
)
def test_each_field_is_checked(key, values):
    content = json.loads(metadata().to_json())
    for value in values:
        with pytest.raises(UserError, match=f"model metadata: {key}"):
            ModelMetadata.from_json(json.dumps({**content, key: value}))
    del content[key]
    with pytest.raises(UserError, match=f"model metadata: {key} is missing"):
        ModelMetadata.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("thresholds", [None, 0.9, "ab", [0.9] * 7, [0.9] * 9, ["0.9"] * 8, [-0.1] * 8, [float("nan")] * 8]),
        ("unknown", [None, -0.1, "1", float("inf"), [0.5]]),
        ("target_purity", [None, 1.1, -1, "1"]),
        ("confidence", [None, 1.1, True]),
    ],
)
def test_each_field_of_the_guard_is_checked(key, values):
    content = json.loads(metadata().to_json())
    for value in values:
        changed = {**content, "guard": {**content["guard"], key: value}}
        with pytest.raises(UserError, match=f"model metadata: guard.{key}"):
            ModelMetadata.from_json(json.dumps(changed))
    del content["guard"][key]
    with pytest.raises(UserError, match=f"model metadata: guard.{key} is missing"):
        ModelMetadata.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", "[" * 100_000, "1" * 10_000])
def test_what_is_no_json_object(text):
    with pytest.raises(UserError, match="model metadata"):
        ModelMetadata.from_json(text)


def test_a_writer_cannot_hold_an_invalid_one():
    with pytest.raises(UserError, match="temperature"):
        metadata(temperature=0.0)
