"""Top-down patterns as signed distances: line/space, periodic arrays and a few large shapes."""

from dataclasses import dataclass

import numpy as np

from .canvas import FAR, FRAME, Canvas, Field
from .fields import box_sdf, rough_edges, sample_blob
from .sampling import Rng, chance, clipped_normal, integer, log_uniform, pick, recorded, uniform


@dataclass(frozen=True)
class LineSpace:
    """Vertical lines. ``centres``, ``widths`` (n,); ``left``, ``right`` (n, S) edge positions per row; units.

    ``sdf`` (S, S) is positive on the lines; ``sigma`` is the edge roughness in units.
    """

    pitch: float
    duty: float
    sigma: float
    centres: Field
    widths: Field
    left: Field
    right: Field
    sdf: Field

    @property
    def space(self) -> float:
        """Return the nominal space between two lines in units."""
        return self.pitch * (1.0 - self.duty)

    def visible(self, margin: float = 8.0) -> list[int]:
        """Return the indices of lines whose centre is at least ``margin`` units inside the frame."""
        inside = (self.centres > margin) & (self.centres < FRAME - margin)
        found = [int(i) for i in np.nonzero(inside)[0]]
        return found or [int(np.argmin(np.abs(self.centres - FRAME / 2)))]

    def gap(self, canvas: Canvas, index: int, y: float) -> tuple[float, float]:
        """Return left and right end of the space after line ``index`` at height ``y``, in units."""
        row = min(max(int(y * canvas.scale), 0), canvas.size - 1)
        after = min(index + 1, len(self.centres) - 1)
        return float(self.right[index, row]), float(self.left[after, row])

    def spaces(self, margin: float = 8.0) -> list[int]:
        """Return indices i such that the space between lines i and i + 1 is inside the frame."""
        middle = (self.centres[:-1] + self.widths[:-1] / 2 + self.centres[1:] - self.widths[1:] / 2) / 2
        found = [int(i) for i in np.nonzero((middle > margin) & (middle < FRAME - margin))[0]]
        return found or [int(np.argmin(np.abs(middle - FRAME / 2)))]


@dataclass(frozen=True)
class EdgeNoise:
    """Unit edge displacements (n, S) of left and right edges; scaled by a roughness σ in units when used."""

    left: Field
    right: Field


def sample_pitch(rng: Rng, low: float = 4.5, high: float = 45.0) -> float:
    """Draw a line pitch in units."""
    return log_uniform(rng, low, high)


#: Largest roughness σ in units of lines that are not called rough.
SIGMA_CAP = 0.5


def common_sigma(rng: Rng, pitch: float) -> float:
    """Draw an edge roughness σ in units by the law of all line/space scenes but ler: σ/p LU(.003, .03), at most .5.

    A smoother law for clean alone would be a shortcut: networks then tell clean from the rest by its edges.
    """
    return min(pitch * log_uniform(rng, 0.003, 0.03), SIGMA_CAP)


def sample_grid(rng: Rng, pitch: float, duty: float, irregular: float) -> tuple[Field, Field]:
    """Draw centres and widths (n,) of lines in units; ``irregular``: chance of pitch walking and the like."""
    count = int(FRAME / pitch) + 5
    centres = uniform(rng, 0.0, pitch) + (np.arange(count, dtype=np.float32) - 2.0) * pitch
    widths = np.full(count, pitch * duty, np.float32)
    if chance(rng, irregular):
        kind = pick(rng, {"walk": 3, "wide": 2, "pair": 2, "jitter": 2})
        if kind == "walk":
            centres[::2] += pitch * uniform(rng, -0.15, 0.15)
        elif kind == "wide":
            third = integer(rng, 0, 2)
            widths[third::3] = np.minimum(widths[third::3] * uniform(rng, 1.2, 1.7), pitch * 0.85)
        elif kind == "pair":
            centres[::2] += pitch * uniform(rng, 0.08, 0.2)
            widths *= 0.8
        else:
            widths *= 1.0 + 0.15 * recorded(rng, rng.standard_normal(count, np.float32))
    floor = min(1.4, pitch * 0.35)
    return centres.astype(np.float32), np.clip(widths, floor, None).astype(np.float32)


def sample_edge_noise(
    rng: Rng, canvas: Canvas, count: int, xi: float, hurst: float, correlation: float = 0.0
) -> EdgeNoise:
    """Draw unit edge displacements; ``correlation`` in [-1, 1] couples the two edges of a line."""
    both = rough_edges(rng, (2, count, canvas.size), 1.0, xi, hurst, 1.0 / canvas.scale)
    rest = float(np.sqrt(1.0 - correlation**2))
    return EdgeNoise(both[0], correlation * both[0] + rest * both[1])


def build_lines(
    canvas: Canvas,
    pitch: float,
    duty: float,
    grid: tuple[Field, Field],
    noise: EdgeNoise,
    sigma: float,
    wiggle: Field | None = None,
) -> LineSpace:
    """Assemble lines from their parts; ``wiggle`` (n, S) moves both edges of a line together, in units."""
    centres, widths = grid
    shift = 0.0 if wiggle is None else wiggle
    left = centres[:, None] - widths[:, None] / 2 + noise.left * sigma + shift
    right = centres[:, None] + widths[:, None] / 2 + noise.right * sigma + shift
    sdf = lines_sdf(canvas, pitch, float(centres[0]), left, right)
    return LineSpace(pitch, duty, sigma, centres, widths, left, right, sdf)


def lines_sdf(canvas: Canvas, pitch: float, first: float, left: Field, right: Field) -> Field:
    """Return the SDF of vertical lines: the nearest three lines of each column decide."""
    nearest = np.round((canvas.axis - first) / pitch).astype(np.int64)
    # Work on the transpose: a column's candidate lines are then whole rows, taken without a gather.
    position = canvas.axis[:, None]
    sdf = canvas.full(FAR)
    for offset in (-1, 0, 1):
        line = np.clip(nearest + offset, 0, len(left) - 1)
        sdf = np.maximum(sdf, np.minimum(position - left[line], right[line] - position))
    return np.ascontiguousarray(sdf.T)


def sample_lines(
    rng: Rng,
    canvas: Canvas,
    pitch: float | None = None,
    duty_mean: float = 0.50,
    irregular: float = 0.2,
) -> LineSpace:
    """Draw a line/space pattern of common roughness: pitch LU(4.5, 45), duty N(mean, .12) in .2–.82."""
    pitch = sample_pitch(rng) if pitch is None else pitch
    duty = clipped_normal(rng, duty_mean, 0.12, 0.2, 0.82)
    grid = sample_grid(rng, pitch, duty, irregular)
    noise = sample_edge_noise(rng, canvas, len(grid[0]), log_uniform(rng, 2, 20), uniform(rng, 0.3, 1.0))
    return build_lines(canvas, pitch, duty, grid, noise, common_sigma(rng, pitch))


ARRAYS = {"brick": 2.5, "capsule": 2.5, "pad": 2, "hole": 2, "dot": 1.5, "mesh": 1, "outline": 1}


def sample_array(rng: Rng, canvas: Canvas, period: float | None = None) -> tuple[Field, str, float]:
    """Draw a periodic array (of a given ``period`` in x); return its SDF (S, S), kind and smaller period in units.

    Period LU(12, 60), aspect .4–1.6 (15 %: to 3.5), half-row offset in 60 %, corner radius 2–100 % of the half-size.
    """
    kind = pick(rng, ARRAYS)
    period_x = log_uniform(rng, 12, 60) if period is None else period
    aspect = log_uniform(rng, 1.6, 3.5) if chance(rng, 0.15) else uniform(rng, 0.4, 1.6)
    period_y = max(period_x * aspect, 7.0)
    offset = period_x / 2 if chance(rng, 0.6) else 0.0
    y = canvas.y + uniform(rng, 0, period_y)
    x = (
        canvas.x
        + uniform(rng, 0, period_x)
        + np.where(np.mod(np.floor(y / period_y), 2) > 0, offset, 0).astype(np.float32)
    )
    u = np.mod(x, period_x) - period_x / 2
    v = np.mod(y, period_y) - period_y / 2
    hx, hy, radius = _cell_size(rng, kind, period_x, period_y)
    sdf = box_sdf(u, v, 0.0, 0.0, hx, hy, radius)
    if kind in ("hole", "mesh"):
        sdf = -sdf
    if kind == "outline":
        sdf = np.minimum(sdf, uniform(rng, 1.2, 2.5) - sdf)
    return sdf, kind, min(period_x, period_y)


def _cell_size(rng: Rng, kind: str, period_x: float, period_y: float) -> tuple[float, float, float]:
    """Draw half-width, half-height and corner radius of an array cell in units."""
    if kind in ("brick", "outline"):
        hx, hy = period_x * uniform(rng, 0.36, 0.47), period_y * uniform(rng, 0.25, 0.42)
    elif kind == "capsule":
        hx, hy = period_x * uniform(rng, 0.3, 0.45), period_y * uniform(rng, 0.2, 0.4)
        return hx, hy, min(hx, hy) * 0.98
    elif kind == "mesh":
        hx = period_x / 2 - uniform(rng, 1, max(period_x * 0.2, 1.2))
        hy = period_y / 2 - uniform(rng, 1, max(period_y * 0.2, 1.2))
    else:
        hx = period_x * uniform(rng, 0.15, 0.35)
        hy = min(hx * uniform(rng, 0.8, 1.5), period_y * 0.4)
    corner = 1.0 if kind in ("hole", "dot") and chance(rng, 0.6) else uniform(rng, 0.02, 1.0)
    return hx, hy, min(hx, hy) * corner


def sample_shapes(rng: Rng, canvas: Canvas) -> tuple[Field, str, float]:
    """Draw large rounded boxes, T and L shapes, a single edge, plate or ring; as ``sample_array``."""
    kind = pick(rng, {"boxes": 3, "holes": 1, "tee": 1.5, "edge": 1, "plate": 1.5, "ring": 1})
    if kind == "edge":
        tilt = uniform(rng, -0.3, 0.3) if chance(rng, 0.3) else 0.0
        return uniform(rng, 25, 100) - canvas.x + tilt * (canvas.y - FRAME / 2), kind, 40.0
    if kind == "plate":
        hx, hy = uniform(rng, 30, 90), uniform(rng, 30, 90)
        radius = uniform(rng, 0, 12)
        return (
            box_sdf(canvas.x, canvas.y, uniform(rng, 0, FRAME), uniform(rng, 0, FRAME), hx, hy, radius),
            kind,
            40.0,
        )
    if kind == "ring":
        blob = sample_blob(
            rng,
            uniform(rng, 20, 108),
            uniform(rng, 20, 108),
            uniform(rng, 20, 60),
            uniform(rng, 20, 60),
            0.02,
        )
        sdf = blob.sdf(canvas)
        return np.minimum(sdf, uniform(rng, 3, 12) - sdf) if chance(rng, 0.5) else sdf, kind, 20.0
    sdf = canvas.full(-50.0)
    for _ in range(integer(rng, 2, 9)):
        cx, cy = uniform(rng, 0, FRAME), uniform(rng, 0, FRAME)
        hx, hy = log_uniform(rng, 5, 50), log_uniform(rng, 5, 50)
        radius = min(hx, hy) * uniform(rng, 0.02, 0.6)
        sdf = np.maximum(sdf, box_sdf(canvas.x, canvas.y, cx, cy, hx, hy, radius))
        if kind == "tee":
            wx, wy = hx * uniform(rng, 0.2, 0.5), hy * uniform(rng, 1.0, 2.0)
            arm = cx + uniform(rng, -1, 1) * (hx - wx)
            sdf = np.maximum(sdf, box_sdf(canvas.x, canvas.y, arm, cy + hy, wx, wy, min(wx, wy, radius)))
    return (-sdf if kind == "holes" else sdf), kind, 15.0


def blank_film(canvas: Canvas) -> tuple[Field, str, float]:
    """Return an unpatterned film, as ``sample_array``."""
    return canvas.full(-50.0), "film", 60.0
