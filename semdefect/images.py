"""Images from files, through the device's own preprocessing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semdefect import CLASSES
from semdefect.archive import open_image
from semdefect.chunks import MASK_SIZE
from semdefect.edge.image import to_pixels
from semdefect.manifest import IMAGES, Row
from semdefect.network import resize


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes:
        pixels: ``[N, 1, R, R]`` uint8.
        labels: class numbers ``[N]`` int64.
        masks: ``[N, 1, 32, 32]`` bool, where the defect lies.
        known: ``[N]`` bool, whether the mask says so; where not, it is empty.
    """

    pixels: Tensor
    labels: Tensor
    masks: Tensor
    known: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def tensors(self) -> tuple[Tensor, ...]:
        """Pixels, labels, masks and whether these are known."""
        return self.pixels, self.labels, self.masks, self.known

    def take(self, indices: NDArray[np.int64]) -> "ImageSet":
        """The images at ``indices``, which may repeat."""
        chosen = torch.from_numpy(indices)
        return ImageSet(*(tensor[chosen] for tensor in self.tensors()))

    def sample(self, count: int, seed: int) -> "ImageSet":
        """``count`` different images, or all where there are fewer, at random."""
        return self.take(np.random.default_rng(seed).permutation(len(self))[:count])

    def sha256(self) -> str:
        """Hex hash of everything."""
        digest = hashlib.sha256()
        for tensor in self.tensors():
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()


def load_images(rows: Sequence[Row], resolution: int) -> ImageSet:
    """The images of ``rows``, preprocessed as on the device, then resized to ``resolution`` as in the network."""
    pixels = np.stack([to_pixels(open_image(IMAGES / row.path)) for row in rows])
    labels = torch.tensor([CLASSES.index(row.label) for row in rows])
    masks = torch.zeros(len(rows), 1, MASK_SIZE, MASK_SIZE, dtype=torch.bool)
    known = torch.zeros(len(rows), dtype=torch.bool)
    return ImageSet(at_resolution(torch.from_numpy(pixels)[:, None], resolution), labels, masks, known)


def at_resolution(pixels: torch.Tensor, resolution: int) -> torch.Tensor:
    """``pixels [N, 1, H, W]`` uint8 at ``resolution``², rounded back to uint8; in parts, to bound memory."""
    if pixels.shape[-1] == resolution:
        return pixels
    parts = [resize(part.float(), resolution).round_().to(torch.uint8) for part in pixels.split(256)]
    return torch.cat(parts)
