"""Other: pattern collapse, where lines lean over and stick together instead of being joined by material."""

import numpy as np

from ..canvas import FRAME, Canvas
from ..fields import coverage
from ..layouts import build_lines, common_sigma, sample_edge_noise, sample_grid, sample_pitch
from ..registry import family
from ..sampling import Rng, chance, clipped_normal, log_uniform, sign, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..topdown import sample_orientation, turned


@family("other", "collapse", weight=5)
def collapse(rng: Rng, canvas: Canvas) -> Scene:
    """Draw three or more lines that lean pairwise against each other, or all towards one place, over a stretch."""
    pitch = sample_pitch(rng, 5, 22)
    duty = clipped_normal(rng, 0.5, 0.1, 0.3, 0.7)
    grid = sample_grid(rng, pitch, duty, 0.1)
    noise = sample_edge_noise(rng, canvas, len(grid[0]), log_uniform(rng, 2, 20), uniform(rng, 0.3, 1.0))
    sigma = common_sigma(rng, pitch)
    cx, cy = uniform(rng, 0.25, 0.75) * FRAME, uniform(rng, 0.25, 0.75) * FRAME
    reach, stretch = pitch * uniform(rng, 1.5, 4), log_uniform(rng, 8, 40)
    offset = (grid[0] - cx)[:, None]
    along = np.exp(-(((canvas.axis - cy) * (1 / stretch)) ** 2))[None, :]
    if chance(rng, 0.5):
        lean = np.where(np.arange(len(grid[0])) % 2 > 0, 1.0, -1.0)[:, None] * np.exp(-((offset / reach) ** 2))
        lean = lean * (pitch * (1 - duty) * uniform(rng, 0.35, 0.55)) * sign(rng)
    else:
        lean = -offset * uniform(rng, 0.3, 0.6) * np.exp(-((offset / (1.5 * reach)) ** 2))
    wiggle = (lean * along).astype(np.float32)
    before = build_lines(canvas, pitch, duty, grid, noise, sigma)
    after = build_lines(canvas, pitch, duty, grid, noise, sigma, wiggle)
    surface = sample_surface(rng, canvas, pitch, {"binary": 3, "mixed": 3, "edges": 2, "gauss": 1})
    mask = np.abs(coverage(after.sdf) - coverage(before.sdf))
    params = {"layout": "lines", "pitch": round(pitch, 3), "mode": surface.mode}
    scene = Scene(surface.render(after.sdf), surface.render(before.sdf), mask, "collapse", pitch, params=params)
    return turned(scene, sample_orientation(rng, 0.7, 0.25))
