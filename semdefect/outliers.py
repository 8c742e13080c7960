"""Images that are no SEM images of a wafer, drawn from a seed: what the *unknown* score learns to tell apart.

Parts of three photographs that ship with libraries, dead leaves, whose sizes and occlusions have the statistics of
photographs, text, gradients, 1/f noise and warped textures. What tests the score comes from elsewhere
(`semdefect.foreign`).

Sources: Lee, Mumford, Huang, "Occlusion Models for Natural Images", 2001 (dead leaves); Hendrycks, Mazeika,
Dietterich, "Deep Anomaly Detection with Outlier Exposure", 2019; Baradad et al., "Learning to See by Looking at Noise",
2021 (procedural images teach what natural ones look like).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_image

from semdefect.edge.image import SIZE

Picture = NDArray[np.float64]

_FREQUENCY = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)[None])
_FREQUENCY[0, 0] = 1
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
#: Standard deviation, full scale 1, below which a part of a photograph shows next to nothing.
_LEAST_CONTRAST = 0.05
_CHARACTERS = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;-+ ")


def outlier(seed: int) -> NDArray[np.uint8]:
    """One image ``[224, 224]``; equal seeds give equal images."""
    rng = np.random.default_rng(seed)
    picture = _KINDS[rng.choice(len(_KINDS), p=_SHARES)](rng)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    if rng.random() < 0.3:  # as blurred as what was enlarged
        small = int(rng.integers(60, 200))
        image = image.resize((small, small), Image.Resampling.BILINEAR)
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _noise(rng: np.random.Generator, exponent: float) -> Picture:
    """Noise with an amplitude spectrum of 1/f^``exponent``, mean 0, deviation 1."""
    spectrum = np.fft.rfft2(rng.normal(size=(SIZE, SIZE))) / _FREQUENCY**exponent
    values = np.fft.irfft2(spectrum, s=(SIZE, SIZE))
    return np.asarray((values - values.mean()) / values.std())


def _gradient(rng: np.random.Generator) -> Picture:
    """A ramp, a glow, waves or a cloud, 0..1."""
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * _COLUMNS + np.sin(angle) * _ROWS
    kind = rng.integers(4)
    if kind == 0:
        picture = ramp
    elif kind == 1:
        picture = np.hypot(_COLUMNS - rng.uniform(), _ROWS - rng.uniform())
    elif kind == 2:
        picture = np.sin(rng.uniform(2, 12) * ramp + rng.uniform(0, 2 * np.pi))
    else:
        picture = _noise(rng, rng.uniform(2, 3.5))
    return np.asarray((picture - picture.min()) / np.ptp(picture))


def _leaf(rng: np.random.Generator, size: float) -> Picture:
    """A disc, polygon, bar or blob of about ``size`` px somewhere in the image: 1 within, 0 outside."""
    image = Image.new("L", (SIZE, SIZE), 0)
    pen = ImageDraw.Draw(image)
    x, y = rng.uniform(-20, SIZE + 20, 2)
    kind = rng.integers(4)
    if kind == 0:
        flat = size * rng.uniform(0.4, 1)
        pen.ellipse([x - size, y - flat, x + size, y + flat], fill=255)
    elif kind == 2:
        angle = rng.uniform(0, 2 * np.pi)
        across, down = size * np.cos(angle), size * np.sin(angle)
        pen.line(
            [x - across, y - down, x + across, y + down], fill=255, width=int(max(2, size * rng.uniform(0.1, 0.8)))
        )
    else:
        if kind == 1:
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
            radii = size * rng.uniform(0.4, 1.2, len(angles))
        else:
            angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            radii = size * (1 + 0.4 * np.interp(angles, np.linspace(0, 2 * np.pi, 7), rng.normal(size=7)))
        corners = zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)
        pen.polygon(list(corners), fill=255)
    return np.asarray(image, dtype=np.float64) / 255


def _leaves(rng: np.random.Generator) -> Picture:
    """Dead leaves: shapes with textures of their own lie on each other, a few of them large."""
    textures = [_noise(rng, rng.uniform(0.5, 2)) for _ in range(4)]
    picture = rng.uniform(0, 1) + 0.2 * _noise(rng, rng.uniform(0.8, 2))
    typical = rng.uniform(8, 90)
    for _ in range(rng.integers(5, 80)):
        leaf = _leaf(rng, min(120, typical * rng.pareto(2) + 5))
        texture = np.roll(textures[rng.integers(4)], rng.integers(0, SIZE, 2), (0, 1))
        angle = rng.uniform(0, 2 * np.pi)
        shade = rng.uniform(0, 0.5) * (np.cos(angle) * _COLUMNS + np.sin(angle) * _ROWS)
        picture = picture * (1 - leaf) + (rng.uniform(0, 1) + rng.uniform(0, 0.25) * texture + shade) * leaf
    return picture


def _doubled(rng: np.random.Generator) -> Picture:
    return _leaves(rng) + 0.4 * _leaves(rng)


def _texture(rng: np.random.Generator) -> Picture:
    """Noise on two scales, noise of other contrast, or noise that a second one distorts."""
    picture = _noise(rng, rng.uniform(0.5, 1.8))
    kind = rng.integers(3)
    if kind == 0:
        return picture + rng.uniform(0.3, 2) * _noise(rng, rng.uniform(1.5, 3))
    if kind == 1:
        return np.asarray(np.sign(picture) * np.abs(picture) ** rng.uniform(0.3, 2))
    across, down = (6 * _noise(rng, 2.5) for _ in range(2))
    rows = (np.arange(SIZE)[:, None] + down).astype(int) % SIZE
    columns = (np.arange(SIZE)[None] + across).astype(int) % SIZE
    return np.asarray(picture[rows, columns])


def _text(rng: np.random.Generator) -> Picture:
    """Lines of characters, dark on light or light on dark."""
    image = Image.new("L", (SIZE, SIZE), int(rng.integers(120, 256)))
    pen, height = ImageDraw.Draw(image), int(rng.integers(8, 44))
    font = ImageFont.load_default(height)
    y = float(rng.integers(-5, 20))
    while y < SIZE:
        line = "".join(rng.choice(_CHARACTERS, 60))
        pen.text((int(rng.integers(-20, 12)), y), line, fill=int(rng.integers(0, 90)), font=font)
        y += height * rng.uniform(1.1, 2)
    picture = np.asarray(image, dtype=np.float64) / 255
    return 1 - picture if rng.random() < 0.3 else picture


@lru_cache(maxsize=1)
def _photographs() -> list[Picture]:
    """Color channels of three photographs, 0..1, which scikit-learn and matplotlib ship as sample data."""
    pictures = [load_sample_image("china.jpg"), load_sample_image("flower.jpg")]
    pictures.append(np.asarray(Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False)))))
    return [picture[:, :, channel] / 255 for picture in pictures for channel in range(3)]


def _photograph(rng: np.random.Generator) -> Picture:
    """A part of a photograph, from an eighth of its shorter side up, turned or mirrored, some of it very enlarged."""
    part = np.zeros((1, 1))
    while part.std() < _LEAST_CONTRAST:  # the sky
        picture = _photographs()[rng.integers(len(_photographs()))]
        side = int(min(picture.shape) * rng.uniform(1 / 8, 1))
        top, left = (rng.integers(0, length - side + 1) for length in picture.shape)
        part = picture[top : top + side, left : left + side]
    part = np.rot90(part, int(rng.integers(4)))
    part = part[:, ::-1] if rng.random() < 0.5 else part
    image = Image.fromarray((part * 255).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.float64) / 255


def _exposed(draw: Callable[[np.random.Generator], Picture]) -> Callable[[np.random.Generator], Picture]:
    """What ``draw`` draws, around mid grey and with a random contrast."""

    def drawn(rng: np.random.Generator) -> Picture:
        picture = draw(rng)
        return 0.5 + (picture - picture.mean()) / (picture.std() + 1e-6) * rng.uniform(0.08, 0.28)

    return drawn


_KINDS = [
    *map(_exposed, (_leaves, _doubled, _texture, _gradient, lambda rng: _noise(rng, rng.uniform(0, 2.2)))),
    _text,
    _photograph,
]
_SHARES = (0.25, 0.05, 0.1, 0.1, 0.1, 0.15, 0.25)
