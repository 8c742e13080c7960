"""Image files that are small and ask for much are refused by their header."""

import io
import struct
import threading
import time

import pytest
from PIL import Image

from benchmarks.fuzz_images import CROWDED, rle
from semdefect.edge import limits
from semdefect.edge.image import open_gray
from semdefect.errors import UserError


def refusal(path, content):
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        open_gray(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and ";" in message
    return message


def saved(image, name, **options):
    buffer = io.BytesIO()
    image.save(buffer, name, **options)
    return buffer.getvalue()


def test_run_lengths_of_a_large_bmp(tmp_path):
    """Pillow decodes them in Python: 100 megapixels, from a file of 40 kB, took 24 s."""
    assert "run-length encoded BMP of more than 8 megapixels" in refusal(tmp_path / "a.bmp", rle(4000, 2001))
    (tmp_path / "b.bmp").write_bytes(rle(40, 30))
    assert open_gray(tmp_path / "b.bmp").size == (40, 30)


@pytest.mark.parametrize("name", [name for name in CROWDED if not name.startswith("WebP")])
def test_much_beside_the_pixels(tmp_path, name):
    """Pillow goes through it one by one: 18 s for a JPEG of 40 MB, 5 s for a TIFF of 3 MB."""
    path = tmp_path / f"a.{name.partition(',')[0].lower()}"
    path.write_bytes(CROWDED[name](2000))
    assert min(open_gray(path).size) in (1, 8)
    fault = "strips or tiles" if name == "TIFF, strips" else "holds more beside its pixels than any image needs"
    begin = time.process_time()
    assert fault in refusal(path, CROWDED[name](limits.MAX_READS + 1))
    assert time.process_time() - begin < 4


def test_much_at_once_beside_the_pixels_of_a_webp(tmp_path, monkeypatch):
    """Which is read in one go: honest ones are larger than what may stand beside the pixels of others."""
    content = CROWDED["WebP, chunks"](500_000)
    assert len(content) > limits.MAX_HEADER_BYTES
    (tmp_path / "a.webp").write_bytes(content)
    assert open_gray(tmp_path / "a.webp").size == (8, 8)
    monkeypatch.setattr(limits, "MAX_WEBP_BYTES", len(content) - 1)
    assert "is larger than" in refusal(tmp_path / "b.webp", content)


def test_a_large_webp(tmp_path, monkeypatch):
    """libwebp took 1.6 GB and 8 s for 98 megapixels of noise."""
    monkeypatch.setattr(limits, "MAX_WEBP_PIXELS", 10_000)
    content = saved(Image.new("RGB", (101, 100)), "WEBP")
    assert "WebP of more than" in refusal(tmp_path / "a.webp", content)


def test_a_jpeg_that_draws_its_pixels_often(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", 20 * 64 * 48)
    content = saved(Image.effect_noise((64, 48), 40), "JPEG", progressive=True)
    (tmp_path / "a.jpg").write_bytes(content)
    assert open_gray(tmp_path / "a.jpg").size == (64, 48)
    last = content.rindex(b"\xff\xda")
    many = content[:last] + content[last:-2] * 30 + content[-2:]
    assert "draws its pixels" in refusal(tmp_path / "b.jpg", many)


def one_colour_a_scan(side, more):
    """A JPEG that is not progressive, with a scan for each of three colours, and the first ``more`` times again."""
    content = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG", subsampling=0))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = 2 * side.to_bytes(2, "big")

    def scan(colour, tables):
        return b"\xff\xda\x00\x08\x01" + bytes([colour, tables]) + b"\x00\x3f\x00" + bytes(2)

    scans = scan(1, 0) * (1 + more) + scan(2, 0x11) + scan(3, 0x11)
    return bytes(content[: content.index(b"\xff\xda")]) + scans + b"\xff\xd9"


def test_a_sequential_jpeg_that_draws_its_pixels_often(tmp_path, monkeypatch):
    """libjpeg goes over all pixels for each scan of one colour: 20 ms for 12 bytes, of 98 megapixels."""
    monkeypatch.setattr(limits, "MAX_SCANNED_PIXELS", 20 * 64 * 64)
    (tmp_path / "a.jpg").write_bytes(one_colour_a_scan(64, 0))
    assert open_gray(tmp_path / "a.jpg").size == (64, 64)
    assert "draws its pixels 33 times" in refusal(tmp_path / "b.jpg", one_colour_a_scan(64, 30))


def in_a_tiff(jpeg, side):
    """A TIFF of one strip, which is ``jpeg``."""
    tags = {256: side, 257: side, 258: 8, 259: 7, 262: 1, 273: 8 + 2 + 9 * 12 + 4, 277: 1, 278: side, 279: len(jpeg)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + jpeg


@pytest.mark.parametrize(("scans", "refused"), [(10, False), (40, True)])
def test_a_jpeg_in_a_tiff_that_draws_its_pixels_often(tmp_path, scans, refused):
    """libtiff stops above 100 scans by itself, which would take 10 s of 98 megapixels."""
    content = saved(Image.new("L", (64, 64), 100), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    many = content[:last] + content[last:-2] * (scans + 1 - content.count(b"\xff\xda")) + content[-2:]
    (tmp_path / "a.tif").write_bytes(in_a_tiff(many, 64))
    if refused:
        with pytest.raises(UserError, match=r"a\.tif: is cut off or damaged"):
            open_gray(tmp_path / "a.tif")
    else:
        assert open_gray(tmp_path / "a.tif").getextrema() == (100, 100)


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(limits.MAX_BYTES + 1)  # sparse: takes no room on the disk
    with pytest.raises(UserError, match="larger than 512 MiB"):
        open_gray(path)


def test_what_large_images_took_goes_back_to_the_system():
    """In blocks of 16 MiB, Pillow's default, four threads kept 2.6 GB of four images of 98 megapixels, not 1.0 GB."""
    assert Image.core.get_block_size() > 2**25  # what glibc maps by itself, whatever it has learned before


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    """Four threads decode; four of the largest images would need four times the memory of one."""
    monkeypatch.setattr(limits, "_LARGE_PIXELS", 100)
    path = tmp_path / "a.png"
    Image.effect_noise((64, 48), 40).save(path)
    inside, most = [], []

    def decode(size):
        with path.open("rb") as file, limits.in_turn(Image.new("L", size), file):
            inside.append(size)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    for size, expected in (((64, 48), 1), ((8, 8), 4)):
        most.clear()
        threads = [threading.Thread(target=decode, args=(size,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (max(most) == 1) == (expected == 1)
