import io
import random
import resource
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from semdefect.edge.image import SIZE, list_images, open_gray, to_gray, to_pixels, to_tensor
from semdefect.errors import UserError


@pytest.fixture
def ramp():
    """224 x 224 so that nothing is resized; every gray level occurs."""
    return np.tile(np.arange(224, dtype=np.uint8), (224, 1)) + np.arange(32, dtype=np.uint8).repeat(7)[:, None]


def read(path):
    return np.asarray(open_gray(path))


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp"])
def test_gray_reads_exactly(tmp_path, ramp, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read(path), ramp)
    assert np.array_equal(to_pixels(open_gray(path)), ramp)


def test_tensor(ramp):
    tensor = to_tensor(Image.fromarray(ramp))
    assert tensor.shape == (1, 1, SIZE, SIZE) and tensor.dtype == np.float32
    assert np.array_equal(tensor[0, 0], ramp.astype(np.float32) / np.float32(255))
    assert to_tensor(Image.new("L", (9, 9), 255)).max() == 1 and tensor.min() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 2), (128, 128), (225, 224), (1024, 768)])
def test_any_size_becomes_the_square(size):
    pixels = to_pixels(Image.new("L", size, 77))
    assert pixels.shape == (SIZE, SIZE) and pixels.dtype == np.uint8 and (pixels == 77).all()


def test_resize_is_bilinear_after_gray():
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exact = np.asarray(image.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(to_pixels(to_gray(image)).astype(int) - exact).max() <= 8  # on noise, the worst case


def test_pixels_want_gray():
    with pytest.raises(ValueError, match="mode L"):
        to_pixels(Image.new("RGB", (4, 4)))


def test_one_bit(tmp_path):
    Image.fromarray(np.eye(9, dtype=bool)).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png"), np.eye(9, dtype=np.uint8) * 255)


def test_color_is_luma(tmp_path):
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]], dtype=np.uint8)
    for name in ("a.png", "a.bmp", "a.tif"):
        Image.fromarray(colors).save(tmp_path / name)
        assert read(tmp_path / name).tolist() == [[76, 150, 29, 90]]


def test_palette(tmp_path):
    image = Image.new("P", (3, 1))
    image.putpalette([200, 200, 200, 10, 10, 10, 60, 60, 60])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "plain.png")
    assert read(tmp_path / "plain.png").tolist() == [[200, 10, 60]]
    image.save(tmp_path / "index.png", transparency=0)
    assert read(tmp_path / "index.png").tolist() == [[0, 10, 60]]
    image.save(tmp_path / "levels.png", transparency=bytes([0, 128, 255]))
    assert read(tmp_path / "levels.png").tolist() == [[0, 10, 60]]


def test_alpha_keeps_the_color_beneath_unless_nothing_shows(tmp_path):
    rgba = np.array([[[80, 80, 80, 255], [80, 80, 80, 1], [80, 80, 80, 0]]], dtype=np.uint8)
    for name in ("rgba.png", "rgba.tif"):
        Image.fromarray(rgba).save(tmp_path / name)
        assert read(tmp_path / name).tolist() == [[80, 80, 0]]
    Image.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")
    assert read(tmp_path / "la.png").tolist() == [[80, 80, 0]]
    Image.fromarray(np.array([[80, 90]], dtype=np.uint8)).save(tmp_path / "l.png", transparency=80)
    assert read(tmp_path / "l.png").tolist() == [[0, 90]]
    Image.new("LA", (2, 1), (80, 0)).save(tmp_path / "unfilled.png")
    assert read(tmp_path / "unfilled.png").tolist() == [[80, 80]]
    for mode in ("La", "RGBa", "PA"):
        assert (
            to_gray(Image.new("LA" if mode == "La" else "RGBA", (1, 1), "white").convert(mode)).getpixel((0, 0)) == 255
        )


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path, name):
    deep = np.array([[0, 128, 129, 257, 4095, 32768, 65534, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    assert read(tmp_path / name).tolist() == [[0, 0, 1, 1, 16, 128, 255, 255]]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_integers_of_a_camera_s_own_depth_span_black_to_white(tmp_path, bits, dtype):
    white = 2**bits - 1
    Image.fromarray(np.array([[0, white // 2, white]], dtype=dtype)).save(tmp_path / "camera.tif")
    assert read(tmp_path / "camera.tif").tolist() == [[0, 127, 255]]


def test_16_bit_big_endian(tmp_path):
    """As ImageJ and many microscopes write it: TIFF with the most significant byte first."""
    values = [0, 257, 32768, 65535]
    data = struct.pack(">4H", *values)
    tags = [(256, 3, 1, 4 << 16), (257, 3, 1, 1 << 16), (258, 3, 1, 16 << 16), (259, 3, 1, 1 << 16)]
    tags += [(262, 3, 1, 1 << 16), (273, 4, 1, 8), (277, 3, 1, 1 << 16), (278, 3, 1, 1 << 16), (279, 4, 1, 8)]
    directory = struct.pack(">H", len(tags)) + b"".join(struct.pack(">HHII", *tag) for tag in tags) + bytes(4)
    path = tmp_path / "big.tif"
    path.write_bytes(b"MM\0*" + struct.pack(">I", 16) + data + directory)
    with Image.open(path) as image:
        assert image.mode == "I;16B"
    assert read(path).tolist() == [[0, 1, 128, 255]]


def test_32_bit_integers_and_floats(tmp_path):
    Image.fromarray(np.array([[-5, 0, 257, 65535, 70000]], dtype=np.int32)).save(tmp_path / "i.tif")
    assert read(tmp_path / "i.tif").tolist() == [[0, 0, 1, 255, 255]]
    for white in (1, 255, 65535):
        floats = np.array([[-1, 0, 0.2 * white, white, np.nan, -np.inf]], dtype=np.float32)
        Image.fromarray(floats).save(tmp_path / "f.tif")
        assert read(tmp_path / "f.tif").tolist() == [[0, 0, 51, 255, 0, 0]]
    assert to_gray(Image.fromarray(np.full((1, 1), np.nan, dtype=np.float32))).getpixel((0, 0)) == 0


def test_cmyk_and_other_spaces(tmp_path):
    Image.new("RGB", (32, 32), (90, 90, 90)).convert("CMYK").save(tmp_path / "a.jpg")
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - 90).max() <= 2
    for mode in ("YCbCr", "HSV"):
        assert abs(to_gray(Image.new("RGB", (1, 1), (90, 90, 90)).convert(mode)).getpixel((0, 0)) - 90) <= 1
    assert to_gray(Image.new("LAB", (1, 1), (90, 128, 128))).getpixel((0, 0)) == 90


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_animation_gives_its_first_frame(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    frames = [Image.new("RGB", (20, 10), (level, level, level)) for level in (40, 120, 240)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert (read(path) == 40).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation(tmp_path, suffix):
    pixels = np.zeros((32, 64), dtype=np.uint8)
    pixels[:, :32] = 200  # left half bright
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn clockwise to see it
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    upright = read(tmp_path / f"a.{suffix}")
    assert upright.shape == (64, 32)
    assert upright[:28].min() > 180 and upright[36:].max() < 20
    assert np.array_equal(to_gray(open_gray(tmp_path / f"a.{suffix}")), upright)  # not turned again


def test_what_is_gray_and_upright_is_not_copied():
    gray = Image.effect_noise((40, 30), 60)
    assert to_gray(gray) is gray


def test_every_pixel_value_becomes_its_share_of_255():
    values = np.resize(np.arange(256, dtype=np.uint8), (SIZE, SIZE))
    assert np.array_equal(to_tensor(Image.fromarray(values))[0, 0], values.astype(np.float32) / np.float32(255))


def test_list_images(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.TiF", ".hidden.png", "notes.txt", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpeg", "b.PNG", "c.TiF", "d.webp"]
    for bad in (tmp_path / "absent", tmp_path / "b.PNG"):
        with pytest.raises(UserError, match=bad.name):
            list_images(bad)


def refusal(path):
    """The message of the UserError; it must be one sentence on one line that starts with the file's name."""
    with pytest.raises(UserError) as caught:
        open_gray(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and ";" in message
    return message


def test_bad_files(tmp_path):
    path = tmp_path / "a.png"
    assert "no such file" in refusal(path)
    assert "no such file" in refusal(tmp_path / "b" / "c.png")
    path.touch()
    assert "empty (0 bytes)" in refusal(path)
    assert "is a folder" in refusal(tmp_path)
    path.write_text("a,b\n1,2\n")
    assert "is no image" in refusal(path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "is no image" in refusal(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "cut off or damaged" in refusal(path)
    for odd in ("/dev/zero", "x" * 5000 + ".png", "a\0b.png"):
        refusal(odd)


def test_permission_denied(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.new("L", (4, 4)).save(path)

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", denied)  # chmod does not stop root
    assert "permission denied" in refusal(path)


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_001, 10_000), (1, 2**31 - 1)])
@pytest.mark.parametrize("pillow_limit", [None, 10**12, Image.MAX_IMAGE_PIXELS])
def test_bomb_is_refused_before_decoding(tmp_path, monkeypatch, size, pillow_limit):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "more than 100 megapixels" in refusal(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_pillow_image_errors_are_user_errors_too():
    with pytest.raises(UserError, match="the image: has no pixels"):
        to_gray(Image.new("L", (0, 5)))
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "PNG")
    with pytest.raises(UserError, match="the image: is cut off"):
        to_gray(Image.open(io.BytesIO(buffer.getvalue()[:1500])))


def samples():
    noise = Image.effect_noise((40, 30), 60)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, options in (
        ("png", noise, {"exif": exif}),
        ("png", noise.convert("P"), {"transparency": 3}),
        ("png", Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50), {}),
        ("jpeg", noise, {"exif": exif}),
        ("jpeg", noise.convert("CMYK"), {}),
        ("bmp", noise.convert("RGB"), {}),
        ("gif", noise, {"save_all": True, "append_images": [noise.rotate(90)]}),
        ("tiff", noise, {"exif": exif}),
        ("tiff", noise.convert("RGBA"), {"compression": "tiff_lzw"}),
        ("tiff", noise.convert("F"), {"compression": "tiff_adobe_deflate"}),
        ("webp", noise.convert("RGBA"), {"exif": exif}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        yield buffer.getvalue()


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_nothing_but_user_errors(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "damaged"
    refused = 0
    for content in samples():
        path.write_bytes(content)
        to_tensor(open_gray(path))
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(draw.choice((0, 1, 4, 30))):
                damaged[draw.randrange(draw.choice((64, len(damaged))))] = draw.randrange(256)
            if draw.random() < 0.5:
                del damaged[draw.randrange(len(damaged)) :]
            path.write_bytes(damaged)
            try:
                to_tensor(open_gray(path))
            except UserError as error:
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
                refused += 1
    assert refused > 200
