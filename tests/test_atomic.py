"""Files appear whole or not at all."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from semdefect.atomic import remove_unfinished, replacing, replacing_files, replacing_folder, unfinished, write_json


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


def test_a_full_disk_names_the_target(tmp_path):
    with pytest.raises(OSError) as fault, replacing(tmp_path / "figures.json"):
        raise OSError(errno.ENOSPC, "No space left on device")  # as writing to an open file does
    assert fault.value.filename == str(tmp_path / "figures.json")


def test_content_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    target, told = tmp_path / "figures.json", []
    monkeypatch.setattr(os, "fsync", lambda handle: told.append((os.fstat(handle).st_ino, target.exists())))
    with replacing(target) as temporary:
        temporary.write_text("new")
        written = temporary.stat().st_ino
    assert told == [(written, False), (tmp_path.stat().st_ino, True)]


def test_a_folder_appears_whole_and_replaces_the_old_one(tmp_path):
    folder = tmp_path / "data" / "images"
    with replacing_folder(folder) as temporary:
        (temporary / "old.png").write_text("old")
        assert not folder.exists()
    with pytest.raises(KeyboardInterrupt), replacing_folder(folder) as temporary:
        (temporary / "half.png").write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in folder.parent.iterdir()] == ["images"]
    assert [path.name for path in folder.iterdir()] == ["old.png"]
    with replacing_folder(folder) as temporary:
        (temporary / "new.png").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new.png"]


def files(folder):
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_cannot_be_removed_or_replaced_is_never_half_gone(tmp_path, monkeypatch):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_text("old")
    (folder / "b.png").write_text("old")
    rename = Path.replace

    def full_when_new(self, target):
        if target == folder and (self / "new.png").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "replace", full_when_new)
        with pytest.raises(OSError), replacing_folder(folder) as temporary:
            (temporary / "new.png").write_text("new")
    assert files(tmp_path) == {"a.png": "old", "b.png": "old"}
    with monkeypatch.context() as disk:  # as of another user, or open on Windows
        disk.setattr(shutil, "rmtree", lambda path, **_: (path / "a.png").unlink(missing_ok=True))
        with replacing_folder(folder) as temporary:
            (temporary / "new.png").write_text("new")
    assert files(folder) == {"new.png": "new"}
    remove_unfinished(tmp_path)
    assert files(tmp_path) == {"new.png": "new"}


def test_files_of_one_export_appear_together_and_others_stay(tmp_path):
    folder = tmp_path / "edge"
    folder.mkdir()
    for name in ("a.onnx", "SHA256SUMS", "own.onnx"):
        (folder / name).write_text("old")

    def export(fault=None):
        with replacing_files(folder, ["a.onnx", "SHA256SUMS"]) as temporary:
            (temporary / "a.onnx").write_text("new")
            assert files(folder) == {"a.onnx": "old", "SHA256SUMS": "old", "own.onnx": "old"}
            if fault:
                raise fault
            (temporary / "SHA256SUMS").write_text("new")

    with pytest.raises(KeyboardInterrupt):
        export(KeyboardInterrupt)
    assert files(tmp_path) == {"a.onnx": "old", "SHA256SUMS": "old", "own.onnx": "old"}
    export()
    assert files(tmp_path) == {"a.onnx": "new", "SHA256SUMS": "new", "own.onnx": "old"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_linked_folder_is_replaced_where_it_lies(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/old.png").write_text("old")
    (tmp_path / "images").symlink_to(tmp_path / "disk")
    with replacing_folder(tmp_path / "images") as temporary:
        (temporary / "new.png").write_text("new")
    assert (tmp_path / "images").is_symlink() and files(tmp_path / "disk") == {"new.png": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "images"]


def test_a_fault_in_a_folder_names_its_place_in_the_target(tmp_path):
    with pytest.raises(OSError) as fault, replacing_folder(tmp_path / "images") as temporary:
        (temporary / "missing" / "0.png").write_text("")
    assert fault.value.filename == str(tmp_path / "images/missing/0.png")


def test_what_killed_processes_left_goes_and_what_others_write_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ours = unfinished(tmp_path / "model.onnx").name
    left = [tmp_path / "deep" / ours.replace(str(os.getpid()), str(pid)) for pid in (dead.pid, os.getppid())]
    others = [tmp_path / "deep" / name for name in ("model.onnx", ".hidden.1.png", f".a.part.{dead.pid}")]
    (tmp_path / "deep").mkdir()
    for path in left + others:
        path.write_text("")
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.rglob("*.*")) == sorted([left[1], *others])


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
