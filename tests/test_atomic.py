"""Files appear whole or not at all."""

import json

import pytest

from semdefect.atomic import replacing, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "figures.json"
    target.write_text("old")

    def fail_halfway():
        with replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_halfway()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_fault_names_the_target_and_not_the_temporary_file(tmp_path):
    target = tmp_path / "figures.json"
    with pytest.raises(OSError) as fault, replacing(target) as temporary:
        raise PermissionError(13, "Permission denied", str(temporary))
    assert fault.value.filename == str(target)


def test_the_target_changes_only_at_the_end_and_its_folder_is_made(tmp_path):
    target = tmp_path / "a" / "b" / "picture.png"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")  # listings of images pass over it
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_json_is_the_same_for_equal_content_in_any_order(tmp_path):
    write_json(tmp_path / "a.json", {"b": [0.123456, {"d": (1, 2.00001)}], "a": None, "n": 3})
    write_json(tmp_path / "b.json", {"n": 3, "a": None, "b": [0.12346, {"d": [1, 2.00002]}]})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [0.1235, {"d": [1, 2.0]}], "n": 3}


def test_a_figure_that_is_no_number_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []
