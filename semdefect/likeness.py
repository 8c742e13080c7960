"""How alike two pictures are, in four ways: perceptual hash, features, thumbnails, and phases of their transforms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect.archive import open_image
from semdefect.base_images import THUMBNAIL, _standardised
from semdefect.edge.image import to_pixels
from semdefect.manifest import IMAGES, Row
from semdefect.network import SemNetwork, standardise

#: Turns by 90° times mirror images.
SYMMETRIES = 8
#: Side in px at which a network sees the images and phases are compared; features for neighbours need no more.
SIDE = 64
#: The highest frequency whose phase counts, in cycles an image; beyond lies mostly noise.
HIGHEST = 24
BITS = 64
#: Ways to find neighbours.
WAYS = ("hash", "features", "correlation")


@dataclass(frozen=True)
class Pictures:
    """N images at `SIDE`, ``[N, 64, 64]`` uint8, and as thumbnails, ``[N, 32, 32]`` uint8."""

    small: NDArray[np.uint8]
    thumbnails: NDArray[np.uint8]

    def take(self, chosen: NDArray[np.int64]) -> "Pictures":
        """Those that are ``chosen``, by their numbers."""
        return Pictures(self.small[chosen], self.thumbnails[chosen])

    def symmetric(self, number: int) -> "Pictures":
        """All of them under a symmetry, see `symmetric`."""
        return Pictures(symmetric(self.small, number), symmetric(self.thumbnails, number))


def read_pictures(rows: Sequence[Row]) -> Pictures:
    """The images of ``rows``.

    Raises:
        UserError: one cannot be read.
    """
    bar = tqdm(rows, desc="leak audit, read", unit="image", disable=None, leave=False)
    grays = (open_image(IMAGES / row.path) for row in bar)
    small, thumbnails = zip(*((to_pixels(gray, SIDE), to_pixels(gray, THUMBNAIL)) for gray in grays), strict=True)
    return Pictures(np.stack(small), np.stack(thumbnails))


def symmetric(images: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """``images [..., S, S]`` turned by ``number // 2`` times 90°, then mirrored where ``number`` (0-7) is odd."""
    turned = np.rot90(images, number // 2, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if number % 2 else turned)


def vectors_of(pictures: Pictures, network: SemNetwork) -> dict[str, NDArray[np.float32]]:
    """For each of `WAYS` a vector an image, ``[N, D]``, of length 1: the inner product of two is how alike they are."""
    flat = pictures.thumbnails.reshape(len(pictures.thumbnails), -1).astype(np.float32)
    return {
        "hash": _hashes(pictures.thumbnails),
        "features": _features(pictures.small, network),
        "correlation": _standardised(flat),
    }


def differing_bits(product: float) -> int:
    """In how many of the 64 bits two images differ whose vectors of the way ``hash`` have this inner product."""
    return round((1 - product) * BITS / 2)


def _hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """ImageHash's pHash: which of the 64 lowest cosine components are above their median, as ±1/8.

    It takes its cosine transform of 32 × 32 px, the size of a thumbnail.
    """
    bits = np.stack([imagehash.phash(Image.fromarray(thumbnail)).hash.ravel() for thumbnail in thumbnails])
    return np.where(bits, 1, -1).astype(np.float32) / np.float32(BITS**0.5)


def _features(small: NDArray[np.uint8], network: SemNetwork) -> NDArray[np.float32]:
    """Mean activations of the last stage of ``network``, ``[N, D]``."""
    backbone: Any = network.backbone
    with torch.inference_mode():
        parts = [
            backbone.forward_features(standardise(batch.float() / 255)).mean(dim=(2, 3))
            for batch in torch.from_numpy(small)[:, None].split(64)
        ]
        return np.asarray(torch.nn.functional.normalize(torch.cat(parts)).numpy(), np.float32)


def phase_agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean cosine of the difference in phase of two images ``[S, S]``, over frequencies of 1 to `HIGHEST` cycles.

    1 for a picture and itself; about 0 for two that have nothing in common but lines of one pitch, since these are few
    of the frequencies. Source: Kuglin, Hines, "The Phase Correlation Image Alignment Method", 1975, here without a
    shift, and limited in frequency as by Ito et al., "A Fingerprint Matching Algorithm Using Phase-Only Correlation",
    2004. A Hann window keeps the edges of the frame out of it.
    """
    cycles = np.fft.fftfreq(len(first)) * len(first)
    radius = np.hypot(cycles[:, None], cycles[None])
    counts = (radius >= 1) & (radius <= HIGHEST)
    return float((_phases(first) * np.conj(_phases(second))).real[counts].mean())


def _phases(image: NDArray[np.uint8]) -> NDArray[np.complex128]:
    """Fourier transform ``[S, S]`` of an image, each value brought to length 1 (0 where there is none)."""
    window = np.hanning(len(image))
    spectrum = np.fft.fft2((image - image.mean()) * window[:, None] * window[None])
    return np.asarray(spectrum / np.maximum(np.abs(spectrum), 1e-9))
