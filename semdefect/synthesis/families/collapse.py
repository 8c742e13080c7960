"""Other: pattern collapse, where lines lean over and stick together instead of being joined by material."""

import numpy as np

from ..canvas import FRAME, Canvas
from ..fields import coverage
from ..layouts import build_lines, common_sigma, sample_edge_noise, sample_grid, sample_pitch
from ..registry import family
from ..sampling import Rng, clipped_normal, integer, log_uniform, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..topdown import sample_orientation, turned


@family("other", "collapse", weight=6)
def collapse(rng: Rng, canvas: Canvas) -> Scene:
    """Draw one to four pairs of neighbouring lines that lean against each other over a stretch of their length."""
    pitch = sample_pitch(rng, 5, 22)
    duty = clipped_normal(rng, 0.5, 0.1, 0.3, 0.7)
    grid = sample_grid(rng, pitch, duty, 0.0)
    count = len(grid[0])
    noise = sample_edge_noise(rng, canvas, count, log_uniform(rng, 2, 20), uniform(rng, 0.3, 1.0))
    sigma, pairs = common_sigma(rng, pitch), integer(rng, 1, 4)
    first = int(
        np.clip(np.argmin(np.abs(grid[0] - uniform(rng, 0.25, 0.75) * FRAME)) - pairs, 1, count - 2 * pairs - 1)
    )
    cy, stretch = uniform(rng, 0.25, 0.75) * FRAME, log_uniform(rng, 10, 45)
    lean = np.zeros((count, canvas.size), np.float32)
    for pair in range(pairs):
        # Half the space and a little: the lines touch where the lean is full, over about the stretch.
        y = (canvas.axis - cy - uniform(rng, -0.4, 0.4) * stretch) * (1 / stretch)
        contact = (0.5 * (1 - duty) * pitch + 0.6) * np.clip(1.6 * np.exp(-y * y), 0, 1)
        lean[first + 2 * pair] += contact
        lean[first + 2 * pair + 1] -= contact
    before = build_lines(canvas, pitch, duty, grid, noise, sigma)
    after = build_lines(canvas, pitch, duty, grid, noise, sigma, lean)
    surface = sample_surface(rng, canvas, pitch, {"binary": 3, "mixed": 3, "edges": 2, "gauss": 1})
    mask = np.abs(coverage(after.sdf) - coverage(before.sdf))
    params = {"layout": "lines", "pitch": round(pitch, 3), "duty": round(duty, 3), "pairs": pairs} | surface.params
    signal, twin = surface.render(after.sdf), surface.render(before.sdf)
    scene = Scene(signal, twin, mask, "collapse", pitch, clutter=surface.clutter, params=params)
    return turned(scene, sample_orientation(rng, 0.7, 0.25))
