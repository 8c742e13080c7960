"""Rendered training images, a few at a time, for processes without torch: importing it takes longer than they do."""

import numpy as np
from numpy.typing import NDArray

from semdefect.synthesis import render

#: Side of a mask: fine enough to tell one cell of the network from the next.
MASK_SIZE = 32


def render_chunk(
    label: str, seeds: list[int], size: int, without: frozenset[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Images ``[n, S, S]`` and masks ``[n, 32, 32]``, in which a cell is set where the defect touches it."""
    drawn = [render(label, seed, size, without=without) for seed in seeds]
    return np.stack([one.image for one in drawn]), np.stack([_coarse(one.mask) for one in drawn])


def _coarse(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    coarse = np.zeros((MASK_SIZE, MASK_SIZE), bool)
    rows, columns = np.nonzero(mask)
    coarse[rows * MASK_SIZE // len(mask), columns * MASK_SIZE // len(mask)] = True
    return coarse
