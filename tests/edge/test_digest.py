"""A model file that is not the one that was written is refused."""

import os
import subprocess

import pytest
from conftest import write_image, write_model

from semdefect.edge import EdgeClassifier
from semdefect.edge.digest import SUMS, write_sums
from semdefect.errors import UserError


@pytest.fixture
def listed(tmp_path):
    """A model with its list beside it."""
    path = write_model(tmp_path / "m.onnx")
    write_sums([path])
    return path


def tamper(path):
    """Change one weight, so that everything but the hash is in order."""
    write_model(path, sharpness=100.0)


def refusal(path, **options):
    with pytest.raises(UserError) as caught:
        EdgeClassifier(path, **options)
    return str(caught.value)


def test_an_honest_model_loads(listed):
    assert EdgeClassifier(listed).sha256 == (listed.parent / SUMS).read_text().split()[0]


def test_a_changed_model_is_refused(listed):
    tamper(listed)
    assert f"{listed}: has been changed since" in refusal(listed)


def test_a_model_that_the_list_does_not_name_is_refused(listed):
    other = write_model(listed.parent / "other.onnx")
    assert f"{other}: " in refusal(other) and "does not list it" in refusal(other)


def test_a_link_goes_by_the_list_beside_the_model(listed, tmp_path_factory):
    link = tmp_path_factory.mktemp("deployed") / "current.onnx"
    link.symlink_to(listed)
    EdgeClassifier(link)
    tamper(listed)
    assert f"{listed}: has been changed since" in refusal(link)


def test_a_link_within_a_folder_goes_by_the_name_of_its_file(listed):
    link = listed.with_name("current.onnx")
    link.symlink_to(listed.name)
    EdgeClassifier(link)
    tamper(listed)
    assert f"{listed}: has been changed since" in refusal(link)


def test_a_list_beside_a_link_counts_too(listed, tmp_path_factory):
    link = tmp_path_factory.mktemp("deployed") / "m.onnx"
    link.symlink_to(listed)
    write_sums([link])
    EdgeClassifier(link)
    tamper(listed)
    write_sums([listed])
    assert f"{link}: has been changed since" in refusal(link)
    write_sums([link])
    (listed.parent / SUMS).write_text(f"{'0' * 64}  m.onnx\n")
    assert f"{listed}: has been changed since" in refusal(link)


def test_without_a_list_any_model_loads(listed):
    tamper(listed)
    (listed.parent / SUMS).unlink()
    EdgeClassifier(listed)


def test_a_pipe_is_no_list(listed):
    (listed.parent / SUMS).unlink()
    os.mkfifo(listed.parent / SUMS)
    assert "is no list of SHA-256 sums" in refusal(listed)


def test_a_hash_given_by_hand_is_what_counts(listed):
    good = EdgeClassifier(listed).sha256
    (listed.parent / SUMS).write_text(f"{'0' * 64}  m.onnx\n")
    EdgeClassifier(listed, sha256=[good.upper(), "f" * 64])
    tamper(listed)
    write_sums([listed])  # by whoever changed the model
    assert "is not what was asked for" in refusal(listed, sha256=[good])


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"hello\n", b"0" * 64 + b"\n", b"g" * 64 + b"  m.onnx\n", b"0" * 63 + b"  m.onnx\n"]
)
def test_a_damaged_list_is_refused(listed, content):
    (listed.parent / SUMS).write_bytes(content)
    assert "is no list of SHA-256 sums" in refusal(listed)


def test_sha256sum_reads_and_writes_the_list(listed):
    check = ["sha256sum", "--check", "--strict", SUMS]
    assert subprocess.run(check, cwd=listed.parent, capture_output=True, check=False).returncode == 0
    for mode in ("--text", "--binary"):
        said = subprocess.run(["sha256sum", mode, "m.onnx"], cwd=listed.parent, capture_output=True, check=True).stdout
        (listed.parent / SUMS).write_bytes(said)
        EdgeClassifier(listed)


def test_the_command_line(command, listed):
    image = write_image(listed.parent / "a.png", 100)
    good = EdgeClassifier(listed).sha256
    assert command("classify", image, "--model", listed, "--sha256", good).returncode == 0
    wrong = command("classify", image, "--model", listed, "--sha256", "0" * 64)
    assert wrong.returncode == 1 and wrong.stdout == "" and good in wrong.stderr
    typo = command("classify", image, "--model", listed, "--sha256", good[:-1])
    assert typo.returncode == 2 and "64 hexadecimal digits" in typo.stderr
    tamper(listed)
    assert "has been changed" in command("classify", image, "--model", listed).stderr
