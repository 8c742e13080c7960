"""The manifest survives a round trip, and a damaged one is refused with its line."""

import os

import pytest
from samples import row

from semdefect import CLASSES
from semdefect.errors import UserError
from semdefect.manifest import MAX_BYTES, read_manifest, write_manifest

ROWS = [
    row("bridge/00000_real.png", origin="real", family="original", source_id='bridge/a, "b".tif', group="real-00000"),
    row("clean/00001_rendered.png", seed=10**15),
    row("crack/00000_rendered.png", bbox="3 4 50 60", family="fields"),
    row("via/ünï.png"),
]
COLUMNS = "path,class,origin,family,source_id,group,seed,size,bbox\n"


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "data" / "manifest.csv"
    write_manifest(path, ROWS)
    return path


def test_rows_come_back_as_they_were_written(manifest):
    assert read_manifest(manifest) == ROWS


def test_the_order_of_rows_does_not_change_the_bytes(manifest, tmp_path):
    write_manifest(tmp_path / "other.csv", reversed(ROWS))
    assert (tmp_path / "other.csv").read_bytes() == manifest.read_bytes()


def test_the_first_line_names_the_columns(manifest):
    assert manifest.read_text(encoding="utf-8").startswith(COLUMNS)


def test_a_missing_manifest_says_what_to_run(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.csv is missing: run `dvc repro`"):
        read_manifest(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.png", "clean/../../secret.png"])
def test_a_path_that_leaves_the_data_folder_is_refused(manifest, path):
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("crack/00000_rendered.png,crack", f"{path},crack"), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 4.*leaves") as refused:
        read_manifest(manifest)
    assert path in str(refused.value)


def test_digits_of_other_scripts_are_no_numbers(manifest):
    text = manifest.read_text(encoding="utf-8")
    head, row = text.rstrip("\n").rsplit("\n", 1)
    other = row.translate({ord("0") + digit: chr(0x660 + digit) for digit in range(10)})
    changed = ",".join(
        new if old.isdecimal() else old for old, new in zip(row.split(","), other.split(","), strict=True)
    )
    manifest.write_text(f"{head}\n{changed}\n", encoding="utf-8")
    with pytest.raises(UserError, match="is not a whole number"):
        read_manifest(manifest)


@pytest.mark.parametrize("path", ["", ".", "./", "/"])
def test_a_path_without_a_name_is_refused(manifest, path):
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("crack/00000_rendered.png,crack", f"{path},crack"), encoding="utf-8")
    with pytest.raises(UserError, match=r"line 4: path '.*' names no image"):
        read_manifest(manifest)


def test_an_unknown_class_is_named_with_its_line_and_the_classes(manifest):
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text.replace("clean/00001_rendered.png,clean", "clean/00001_rendered.png,tidy"))
    with pytest.raises(UserError, match="line 3: 'tidy' is not one of") as refused:
        read_manifest(manifest)
    assert all(label in str(refused.value) for label in CLASSES)


@pytest.mark.parametrize(
    "header",
    ["", "path,label,origin\n", COLUMNS.replace(",seed", ""), COLUMNS.replace("path,class", "class,path")],
)
def test_other_columns_are_refused(manifest, header):
    manifest.write_text(header)
    with pytest.raises(UserError, match="columns must be path, class, origin"):
        read_manifest(manifest)


@pytest.mark.parametrize(
    ("cells", "fault"),
    [("-3,224", "seed '-3'"), ("3,2x", "size '2x'"), ("3,0", "size 0 is not from 64"), ("3,99999", "size 99999")],
)
def test_a_seed_or_size_that_is_no_number_is_refused(manifest, cells, fault):
    manifest.write_text(COLUMNS + f"via/a.png,via,rendered,lines,s,g,{cells},\n")
    with pytest.raises(UserError, match=f"line 2: {fault}"):
        read_manifest(manifest)


@pytest.mark.parametrize("cells", ["via/a.png,via,rendered,lines", "via/a.png,via,rendered,lines,s,g,1,64,,extra"])
def test_a_line_with_too_few_or_too_many_cells_is_refused(manifest, cells):
    manifest.write_text(COLUMNS + f"via/b.png,via,rendered,lines,s,g,1,64,\n{cells}\n")
    with pytest.raises(UserError, match=r"manifest\.csv, line 3: wrong number of columns"):
        read_manifest(manifest)


def test_a_manifest_that_was_cut_off_is_refused(manifest):
    whole = manifest.read_bytes()
    last_line = whole.rindex(b"\n", 0, -1) + 1
    for end in [*range(len(COLUMNS)), *range(last_line + 1, whole.rindex(b","))]:
        manifest.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"manifest\.csv"):
            read_manifest(manifest)


def test_a_manifest_without_images_is_refused(manifest):
    manifest.write_text(COLUMNS)
    with pytest.raises(UserError, match=r"manifest\.csv.*no images"):
        read_manifest(manifest)


def test_bytes_that_are_no_text_are_refused(manifest):
    manifest.write_bytes(COLUMNS.encode() + b"\xff\xfe\x00\x01,via\n")
    with pytest.raises(UserError, match="is not a manifest"):
        read_manifest(manifest)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A data folder with one image of each row, its manifest, and a secret beside it."""
    for path in [tmp_path / "data/synthetic" / entry.path for entry in ROWS] + [tmp_path / "secret/00000_rendered.png"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_manifest(tmp_path / "data/synthetic/manifest.csv", ROWS)
    write_manifest(tmp_path / "data/splits/train.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["synthetic/manifest.csv", "splits/train.csv"])
def test_a_link_that_leaves_the_data_folder_is_refused(data, name):
    assert read_manifest(data / name) == ROWS
    image = data / "synthetic/crack/00000_rendered.png"
    image.unlink()
    image.symlink_to(data.parent / "secret/00000_rendered.png")
    with pytest.raises(UserError, match=r"line 4: 'crack/00000_rendered\.png' leaves data/synthetic"):
        read_manifest(data / name)


def test_a_linked_folder_that_leaves_the_data_folder_is_refused(data):
    (data / "synthetic/crack/00000_rendered.png").unlink()
    (data / "synthetic/crack").rmdir()
    (data / "synthetic/crack").symlink_to(data.parent / "secret")
    with pytest.raises(UserError, match=r"line 4.*leaves"):
        read_manifest(data / "splits/train.csv")


def test_links_within_the_data_folder_to_its_place_and_to_the_cache_of_dvc_are_fine(data):
    """The data folder may lie on another disk, and `cache.type symlink` makes a link of every image."""
    image, cached = data / "synthetic/crack/00000_rendered.png", data.parent / ".dvc/cache/files/md5/0a" / ("b1" * 15)
    cached.parent.mkdir(parents=True)
    image.replace(cached)
    image.symlink_to(cached)
    (data / "synthetic/via/ünï.png").unlink()
    (data / "synthetic/via/ünï.png").symlink_to(data / "synthetic/clean/00001_rendered.png")
    (data / "synthetic").rename(data.parent / "disk")
    (data / "synthetic").symlink_to(data.parent / "disk")
    assert read_manifest(data / "splits/train.csv") == ROWS


def test_a_shard_may_be_a_link_to_the_cache_of_dvc_and_to_nothing_else(data):
    inside = row("shard-000000.tar/via/00000_rendered.png", label="via")
    write_manifest(data / "splits/train.csv", [inside])
    cached, shard = data.parent / ".dvc/cache/files/md5/0a" / ("b1" * 15), data / "synthetic/shard-000000.tar"
    cached.parent.mkdir(parents=True)
    cached.touch()
    shard.symlink_to(cached)
    assert read_manifest(data / "splits/train.csv") == [inside]
    shard.unlink()
    shard.symlink_to(data.parent / "secret/00000_rendered.png")
    with pytest.raises(UserError, match=r"line 2.*leaves"):
        read_manifest(data / "splits/train.csv")


def test_paths_are_checked_where_their_images_are_opened(data):
    """A list from elsewhere: the folder beside it holds no link, the one that is read does."""
    write_manifest(data.parent / "foreign/splits/train.csv", ROWS)
    image = data / "synthetic/crack/00000_rendered.png"
    image.unlink()
    image.symlink_to(data.parent / "secret/00000_rendered.png")
    with pytest.raises(UserError, match=r"line 4.*leaves"):
        read_manifest(data.parent / "foreign/splits/train.csv")


@pytest.mark.parametrize("cells", ["9" * 5000 + ",224", "3," + "9" * 5000])
def test_a_number_that_no_computer_reads_is_refused(manifest, cells):
    """Python converts no texts of more than 4300 digits."""
    manifest.write_text(COLUMNS + f"via/a.png,via,rendered,lines,s,g,{cells},\n")
    with pytest.raises(UserError, match=r"line 2: (seed|size) '9{77}\.\.\.' is not a whole number") as refused:
        read_manifest(manifest)
    assert len(str(refused.value)) < 300


def test_a_long_cell_is_not_repeated_in_the_message(manifest):
    manifest.write_text(COLUMNS + f"via/a.png,{'x' * 100_000},rendered,lines,s,g,1,224,\n")
    with pytest.raises(UserError, match=r"'x{77}\.\.\.' is not one of") as refused:
        read_manifest(manifest)
    assert len(str(refused.value)) < 300


def test_a_manifest_that_is_too_large_is_not_read(manifest):
    with manifest.open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(UserError, match="larger than 256 MiB"):
        read_manifest(manifest)


def test_a_pipe_is_no_manifest(tmp_path):
    os.mkfifo(tmp_path / "manifest.csv")
    with pytest.raises(UserError, match=r"manifest\.csv is a device or a pipe"):
        read_manifest(tmp_path / "manifest.csv")
