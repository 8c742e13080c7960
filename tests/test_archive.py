"""Images inside tar archives are read as files are, and a damaged archive is named."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from samples import texture

from semdefect.archive import MAX_MEMBER, MAX_MEMBERS, open_image, read_member, tar_bytes
from semdefect.errors import UserError
from semdefect.manifest import LARGEST_SIZE


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(texture(seed)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_bytes([("via/b.png", png(2)), ("via/a.png", png(1)), ("via/text.png", b"no picture")]))
    return path


def test_a_member_is_the_picture_that_its_file_would_be(archive, tmp_path):
    (tmp_path / "a.png").write_bytes(png(1))
    inside, outside = open_image(archive / "via/a.png"), open_image(tmp_path / "a.png")
    assert inside.mode == outside.mode == "L" and np.array_equal(np.asarray(inside), np.asarray(outside))


def test_archives_of_equal_files_are_equal_and_tell_nothing_else(archive):
    files = [("via/text.png", b"no picture"), ("via/a.png", png(1)), ("via/b.png", png(2))]
    assert tar_bytes(files) == archive.read_bytes()
    with tarfile.open(archive) as listed:
        assert [member.name for member in listed] == ["via/a.png", "via/b.png", "via/text.png"]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in listed} == {(0, 0, 0, "", "", 0o644)}


def test_an_archive_that_tar_wrote_from_a_folder_is_read(tmp_path):
    (tmp_path / "via").mkdir()
    (tmp_path / "via/a.png").write_bytes(png(1))
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as written:
        written.add(tmp_path / "via", "via")
    assert read_member(tmp_path / "x.tar", "via/a.png") == png(1)


def test_an_archive_that_was_written_again_is_read_again(archive):
    assert read_member(archive, "via/a.png") == png(1)
    archive.write_bytes(tar_bytes([("via/a.png", png(3))]))
    assert read_member(archive, "via/a.png") == png(3)


def test_a_folder_that_is_called_tar_is_a_folder(tmp_path):
    (tmp_path / "odd.tar").mkdir()
    (tmp_path / "odd.tar/a.png").write_bytes(png(1))
    assert open_image(tmp_path / "odd.tar/a.png").size == (64, 64)


def backwards(content: bytes) -> bytes:
    """A first header whose size is negative (base 256), with a right checksum: some versions of `tarfile` never end."""
    header = bytearray(content[:512])
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[512:]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[:700],
        lambda content: content[:-10240],
        lambda content: b"",
        lambda content: b"\x1f\x8b" + content[2:],
        backwards,
    ],
)
def test_a_damaged_archive_is_named(archive, spoil):
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(UserError, match=r"shard\.tar: is no plain tar archive"):
        open_image(archive / "via/a.png")


@pytest.mark.parametrize(
    ("member", "fault"),
    [("via/c.png", "shard.tar has no via/c.png"), ("via/text.png", "via/text.png: is no PNG file")],
)
def test_a_member_that_is_missing_or_no_picture_is_named(archive, member, fault):
    with pytest.raises(UserError, match=fault):
        open_image(archive / member)


@pytest.mark.parametrize("size", [MAX_MEMBER + 1, 2**38])
def test_a_member_that_is_too_large_is_not_read(tmp_path, size):
    """A file with a hole in it claims gigabytes and takes a kilobyte on the disk."""
    header = tarfile.TarInfo("via/a.png")
    header.size = size
    with (tmp_path / "big.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + -(-size // 512) * 512 + 1024)
    with pytest.raises(UserError, match=r"big\.tar: via/a\.png is larger than 4 MiB") as refused:
        open_image(tmp_path / "big.tar/via/a.png")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("count", "fault"), [(MAX_MEMBERS, "has no via/a.png"), (MAX_MEMBERS + 1, "has more than")])
def test_an_archive_of_very_many_headers_is_not_walked_to_its_end(tmp_path, count, fault):
    (tmp_path / "x.tar").write_bytes(tarfile.TarInfo("empty").tobuf(tarfile.USTAR_FORMAT) * count + bytes(1024))
    with pytest.raises(UserError, match=rf"x\.tar:? {fault}"):
        read_member(tmp_path / "x.tar", "via/a.png")


def test_the_largest_picture_of_a_data_set_fits(tmp_path):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (LARGEST_SIZE, LARGEST_SIZE), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    (tmp_path / "x.tar").write_bytes(tar_bytes([("via/a.png", file.getvalue())]))
    assert open_image(tmp_path / "x.tar/via/a.png").size == (LARGEST_SIZE, LARGEST_SIZE)
    assert len(file.getvalue()) < MAX_MEMBER / 2


def test_a_missing_archive_is_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        open_image(tmp_path / "gone.tar/via/a.png")
