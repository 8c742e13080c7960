"""Images that are no SEM images of a wafer, to test the *unknown* score: photographs, text, gradients and noise.

The score learns from images of `semdefect.outliers`; nothing here is one of them, and its three photographs are others.
"""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from semdefect.edge.image import SIZE, open_gray, to_pixels

#: The photographs that scikit-image ships; its graphics (chessboards, a colour chart, a logo …) are none.
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "clock_motion.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "microaneurysms.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
#: Scanned pages that it ships.
PAGES = ("page.png", "text.png")
#: Parts of each of those files that are shown beside the whole.
CROPS = 3
#: Images of each other kind.
COUNT = 40
_WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "wafer",
    "report",
    "lot",
    "4711",
    "yield",
]


def foreign_images(seed: int) -> dict[str, list[Image.Image]]:
    """Gray images 224² by kind: ``photographs``, ``text``, ``gradients``, ``noise``; equal seeds give equal images."""
    rng = np.random.default_rng(seed)
    pages = [view for name in PAGES for view in _views(name, rng)]
    return {
        "photographs": [view for name in PHOTOGRAPHS for view in _views(name, rng)],
        "text": pages + [_text(rng) for _ in range(COUNT - len(pages))],
        "gradients": [_gradient(rng) for _ in range(COUNT)],
        "noise": [_noise(rng) for _ in range(COUNT)],
    }


def _views(name: str, rng: np.random.Generator) -> list[Image.Image]:
    """A file of scikit-image, whole and in parts, as the device sees it."""
    whole = open_gray(Path(skimage.data.__file__).parent / name)
    parts = []
    for share in rng.uniform(0.4, 0.9, CROPS):
        width, height = round(whole.width * share), round(whole.height * share)
        x, y = rng.integers(0, whole.width - width + 1), rng.integers(0, whole.height - height + 1)
        parts.append(whole.crop((x, y, x + width, y + height)))
    return [Image.fromarray(to_pixels(image)) for image in (whole, *parts)]


def _text(rng: np.random.Generator) -> Image.Image:
    """A page of words."""
    page = Image.new("L", (400, 400), int(rng.integers(180, 256)))
    pen, height = ImageDraw.Draw(page), int(rng.integers(12, 40))
    for y in range(5, 400, round(height * 1.3)):
        pen.text((5, y), " ".join(rng.choice(_WORDS, 12)), int(rng.integers(0, 80)), ImageFont.load_default(height))
    return Image.fromarray(to_pixels(page))


def _gradient(rng: np.random.Generator) -> Image.Image:
    """A ramp or a glow between two gray levels."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    angle, centre = rng.uniform(0, 2 * np.pi), rng.uniform(size=2)
    if rng.random() < 0.5:
        values = np.cos(angle) * columns + np.sin(angle) * rows
    else:
        values = np.hypot(columns - centre[0], rows - centre[1])
    low, high = np.sort(rng.uniform(0, 255, 2))
    scaled = low + (values - values.min()) / np.ptp(values) * max(high - low, 20)
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def _noise(rng: np.random.Generator) -> Image.Image:
    """White noise, or noise with a spectrum of 1/f^0.3 to 1/f^1.5."""
    values = rng.normal(size=(SIZE, SIZE))
    if rng.random() < 0.5:
        frequency = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
        frequency[0, 0] = 1
        values = np.fft.irfft2(np.fft.rfft2(values) / frequency ** rng.uniform(0.3, 1.5), s=(SIZE, SIZE))
    values = 128 + (values - values.mean()) / values.std() * rng.uniform(15, 60)
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
