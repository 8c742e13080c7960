"""Line-edge roughness: σ relative to pitch is what separates it from every other line/space scene."""

import math
from dataclasses import dataclass

import numpy as np

from ..canvas import FRAME, Canvas, Field
from ..fields import rough_edges, texture
from ..layouts import EdgeNoise, build_lines, common_sigma, sample_edge_noise, sample_grid, sample_pitch
from ..registry import family
from ..sampling import Rng, chance, clipped_normal, integer, log_uniform, recorded, uniform
from ..scene import Scene
from ..shading import MODES, Surface, sample_surface
from ..topdown import sample_orientation, turned


@dataclass(frozen=True)
class Roughness:
    """Bounds of σ/p and of the wiggle's amplitude/p, and the correlation of a line's two edges."""

    sigma: tuple[float, float]
    wiggle: tuple[float, float] | None = None
    correlation: tuple[float, float] = (0.0, 0.0)


#: Smallest roughness σ in units: below it the beam hides the edges' movement.
SIGMA_FLOOR = 0.3


def _wiggle(rng: Rng, canvas: Canvas, count: int, amplitude: float, xi: float) -> Field:
    """Return (count, S) displacements that move both edges together; half of them with a common mode."""
    own = rough_edges(rng, (count, canvas.size), amplitude, xi, 1.0, 1.0 / canvas.scale)
    if chance(rng, 0.5):
        return 0.5 * own + 0.6 * math.sqrt(count) * own.mean(axis=0, keepdims=True)
    return own


def _partly_quiet(rng: Rng, noise: EdgeNoise) -> EdgeNoise:
    """Return the noise with one side of the lines, or about half of the lines, nearly straight."""
    if chance(rng, 0.5):
        return (
            EdgeNoise(noise.left, 0.3 * noise.right) if chance(rng, 0.5) else EdgeNoise(0.3 * noise.left, noise.right)
        )
    factor = np.where(recorded(rng, rng.random((len(noise.left), 1))) < 0.5, 0.3, 1.0).astype(np.float32)
    factor[::3] = 1.0
    return EdgeNoise(noise.left * factor, noise.right * factor)


def _rough(rng: Rng, canvas: Canvas, law: Roughness, kind: str, modes: dict[str, float] | None = None) -> Scene:
    """Draw rough lines; the twin has the same lines with roughness by the common law and no wiggle."""
    pitch = sample_pitch(rng, 4.5, 60)
    duty = clipped_normal(rng, 0.5, 0.12, 0.2, 0.82)
    grid = sample_grid(rng, pitch, duty, 0.2)
    count = len(grid[0])
    xi = log_uniform(rng, 2, 20)
    noise = sample_edge_noise(rng, canvas, count, xi, uniform(rng, 0.3, 1.0), uniform(rng, *law.correlation))
    if chance(rng, 0.2):
        noise = _partly_quiet(rng, noise)
    sigma = max(pitch * log_uniform(rng, *law.sigma), SIGMA_FLOOR)
    wiggle = None
    if law.wiggle:
        amplitude = pitch * log_uniform(rng, *law.wiggle)
        wiggle = _wiggle(rng, canvas, count, amplitude, xi * uniform(rng, 1.5, 4))
    lines = build_lines(canvas, pitch, duty, grid, noise, sigma, wiggle)
    quiet = build_lines(canvas, pitch, duty, grid, noise, min(common_sigma(rng, pitch), 0.5 * sigma))
    surface = sample_surface(rng, canvas, pitch, MODES if modes is None else modes)
    grain = uniform(rng, 0.03, 0.1) * texture(rng, canvas, uniform(rng, 1, 3)) if chance(rng, 0.25) else None
    return _scene(rng, (lines.sdf, quiet.sdf), (sigma, quiet.sigma), surface, kind, pitch, (0.82, 0.15), grain)


def _scene(
    rng: Rng,
    sdfs: tuple[Field, Field],
    sigmas: tuple[float, float],
    surface: Surface,
    kind: str,
    pitch: float,
    upright: tuple[float, float],
    grain: Field | None = None,
) -> Scene:
    """Shade rough lines and their twin, given SDF and roughness of each; ``grain`` lies on top of the lines.

    ``upright`` holds the shares of vertical and horizontal lines.
    """
    signal, twin = (surface.render(sdf) + (0.0 if grain is None else grain * (sdf > 0)) for sdf in sdfs)
    band = np.clip(2.5 - np.abs(sdfs[0]), 0.0, 1.0)
    rough, quiet = ({"sigma": round(sigma, 4)} for sigma in sigmas)
    scene = Scene(
        signal,
        twin,
        band,
        kind,
        pitch,
        structural=True,
        clutter=surface.clutter,
        params={"layout": "lines", "pitch": round(pitch, 3)} | rough | surface.params,
        twin_params=quiet,
    )
    return turned(scene, sample_orientation(rng, *upright))


@family("ler", "rough", weight=33)
def rough(rng: Rng, canvas: Canvas) -> Scene:
    """Draw clearly rough, independent edges; a third of them wiggle as well."""
    wiggle = (0.02, 0.06) if chance(rng, 0.3) else None
    return _rough(rng, canvas, Roughness((0.02, 0.09), wiggle), "rough")


@family("ler", "wiggle", weight=15)
def wiggle(rng: Rng, canvas: Canvas) -> Scene:
    """Draw lines whose two edges move together."""
    return _rough(rng, canvas, Roughness((0.015, 0.05), (0.03, 0.10)), "wiggle")


@family("ler", "mild", weight=32)
def mild(rng: Rng, canvas: Canvas) -> Scene:
    """Draw mild roughness, the hardest to tell from clean."""
    return _rough(rng, canvas, Roughness((0.01, 0.03)), "mild")


@family("ler", "edges_only", weight=8)
def edges_only(rng: Rng, canvas: Canvas) -> Scene:
    """Draw rough edges of lines with the same grey as the spaces."""
    return _rough(rng, canvas, Roughness((0.012, 0.06)), "edges_only", {"edges": 1})


@family("ler", "pinch", weight=6)
def pinch(rng: Rng, canvas: Canvas) -> Scene:
    """Draw edges so rough, and so opposed, that lines pinch or nearly touch."""
    wave = (0.06, 0.12) if chance(rng, 0.4) else None
    return _rough(rng, canvas, Roughness((0.06, 0.13), wave, (-0.6, 0.2)), "pinch")


@family("ler", "isolated", weight=6)
def isolated(rng: Rng, canvas: Canvas) -> Scene:
    """Draw two to five lines at uneven distances, some of them straight; in the twin all are straight."""
    count = integer(rng, 2, 5)
    room = 0.9 * FRAME / count  # of each line with half of the spaces beside it
    widths = (room * recorded(rng, rng.uniform(0.2, 0.55, count))).astype(np.float32)
    jitter = recorded(rng, rng.uniform(-0.5, 0.5, count)) * 0.6 * (room - widths)
    centres = (0.05 * FRAME + (np.arange(count) + 0.5) * room + jitter).astype(np.float32)
    noise = sample_edge_noise(rng, canvas, count, log_uniform(rng, 2, 20), uniform(rng, 0.3, 1.0))
    # Three deviations leave a line whole and apart from the next.
    most = float(min(widths.min(), np.diff(centres).min() - widths.max())) / 6
    sigma = max(log_uniform(rng, 0.6, 3.0), SIGMA_FLOOR)
    sigma, quiet = min(sigma, max(most, SIGMA_FLOOR)), min(common_sigma(rng, room), 0.5 * SIGMA_FLOOR)
    straight = (recorded(rng, rng.random((count, 1))) < 0.3).astype(np.float32)
    straight[integer(rng, 0, count - 1)] = 0.0
    surface = sample_surface(rng, canvas, 14.0, {"mixed": 3, "edges": 3, "binary": 1})
    drawn = []
    for each in (sigma * (1.0 - straight) + quiet * straight, quiet):
        left = centres[:, None] - widths[:, None] / 2 + np.clip(noise.left, -3, 3) * each
        right = centres[:, None] + widths[:, None] / 2 + np.clip(noise.right, -3, 3) * each
        sides = [np.minimum(canvas.x - a[:, None], b[:, None] - canvas.x) for a, b in zip(left, right, strict=True)]
        drawn.append(np.max(sides, axis=0).astype(np.float32))
    return _scene(rng, (drawn[0], drawn[1]), (sigma, quiet), surface, "isolated", room, (0.5, 0.45))
