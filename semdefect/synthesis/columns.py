"""Via cross-sections: columns of stacked segments. Defects edit segments or are painted on top."""

from dataclasses import dataclass, replace

import numpy as np

from .canvas import FAR, FRAME, Canvas, Field
from .fields import coverage, smooth_min, texture
from .painting import band, outline, paint
from .sampling import Rng, chance, integer, log_uniform, normal, one_of, pick, recorded, uniform


@dataclass(frozen=True)
class Segment:
    """One piece of a column: centre, top and bottom, full width at the top (units), relative taper, grey.

    ``belly`` widens the middle (share of the half-width); ``neck`` (y, height, share) narrows it locally;
    ``round`` rounds the corners by that many units.
    """

    column: int
    cx: float
    top: float
    bottom: float
    width: float
    taper: float
    value: float
    belly: float = 0.0
    round: float = 0.0
    neck: tuple[float, float, float] | None = None

    def sdf(self, canvas: Canvas) -> Field:
        """Return the (S, S) SDF; FAR outside the segment's neighbourhood."""
        out = canvas.full(FAR)
        if self.bottom <= self.top:
            return out
        half_height = (self.bottom - self.top) / 2
        reach = self.width * (1 + max(0.0, -self.taper) + max(self.belly, 0)) / 2 + 8
        window = canvas.window(self.cx, self.top + half_height, reach, half_height + 8)
        share = np.clip((window.y - self.top) * (0.5 / half_height), 0.0, 1.0)
        half = self.width / 2 * (1.0 - self.taper * share + self.belly * 4 * share * (1 - share))
        if self.neck:
            y, height, depth = self.neck
            half = half * (1.0 - depth * np.exp(-(((window.y - y) / height) ** 2)))
        side = half - np.abs(window.x - self.cx)
        ends = np.minimum(window.y - self.top, self.bottom - window.y)
        out[window.index] = smooth_min(side, ends, self.round) if self.round > 0.3 else np.minimum(side, ends)
        return out


@dataclass(frozen=True)
class Stack:
    """A drawn via cross-section.

    ``base`` is the dielectric (S, S), ``front`` the layers over the columns as (coverage, grey) pairs;
    ``pitch`` and ``width`` of the columns, ``top`` and ``bottom`` of the stack in units; ``metal`` and
    ``dielectric`` greys.
    """

    base: Field
    segments: tuple[Segment, ...]
    front: tuple[tuple[Field, float], ...]
    grain: Field
    edge: float
    edge_length: float
    pitch: float
    width: float
    top: float
    bottom: float
    metal: float
    dielectric: float
    inverted: bool

    @property
    def columns(self) -> list[int]:
        """Return the column numbers whose centre is well inside the frame (or all)."""
        inside = sorted({s.column for s in self.segments if 12 < s.cx < FRAME - 12})
        return inside or sorted({s.column for s in self.segments})

    def of_column(self, column: int) -> list[Segment]:
        """Return a column's segments from top to bottom."""
        return [segment for segment in self.segments if segment.column == column]

    def draw(self, canvas: Canvas, segments: tuple[Segment, ...]) -> tuple[Field, Field]:
        """Return the image (S, S) with these segments, and the metal's coverage (S, S)."""
        image, metal = self.base, canvas.full()
        for segment in segments:
            sdf = segment.sdf(canvas)
            cover = coverage(sdf)
            image = paint(image, cover, segment.value + self.grain)
            if self.edge:
                image = outline(image, sdf, self.edge, self.edge_length)
            metal = np.maximum(metal, cover)
        for cover, value in self.front:
            image = paint(image, cover, value)
            metal = metal * (1.0 - cover)
        return image, metal

    def finish(self, image: Field) -> Field:
        """Return the image with the contrast that the detector gives: bright field inverts it."""
        return 1.05 - image if self.inverted else image

    def replaced(self, old: Segment, new: Segment) -> tuple[Segment, ...]:
        """Return the segments with one replaced."""
        return tuple(new if segment is old else segment for segment in self.segments)


def sample_stack(rng: Rng, canvas: Canvas, least: int = 1) -> Stack:
    """Draw a via cross-section: 1–9 columns of 1–4 segments each, taper −5…35 %, bars and teeth.

    ``least`` columns or more: a defect that only shows against its neighbours needs two.
    """
    dielectric = uniform(rng, 0.08, 0.35)
    metal = min(0.98, dielectric + uniform(rng, 0.25, 0.7))
    counts = {1: 2.0, 2: 4.0, 3: 3.0, 4: 1.5, 6: 0.7, 9: 0.3}
    count = pick(rng, {number: weight for number, weight in counts.items() if number >= least})
    pitch = FRAME / count * uniform(rng, 0.75, 1.05)
    first = FRAME * uniform(rng, 0.35, 0.65) if count == 1 else uniform(rng, 0.3, 0.7) * pitch
    share = uniform(rng, 15, 55) if count == 1 else uniform(rng, 0.18, 0.6) * pitch
    width = min(max(share, 4.0), 60.0)
    top, bottom = FRAME * uniform(rng, 0.02, 0.35), FRAME * uniform(rng, 0.65, 1.02)
    segments = _segments(rng, count, first, pitch, width, top, bottom, metal)
    edge = uniform(rng, 0.05, 0.35) if chance(rng, 0.6) else 0.0
    return Stack(
        base=_furnished(rng, canvas, _dielectric(rng, canvas, dielectric), metal, first, pitch, top, bottom),
        segments=segments,
        front=_front(rng, canvas, metal, first, pitch, top, bottom),
        grain=texture(rng, canvas, log_uniform(rng, 1.5, 6)) * uniform(rng, 0, 0.04),
        edge=edge,
        edge_length=log_uniform(rng, 0.6, 2),
        pitch=pitch,
        width=width,
        top=top,
        bottom=bottom,
        metal=metal,
        dielectric=dielectric,
        inverted=chance(rng, 0.2),
    )


def _dielectric(rng: Rng, canvas: Canvas, grey: float) -> Field:
    image = canvas.full(grey)
    if chance(rng, 0.4):
        image += uniform(rng, -0.2, 0.2) * (canvas.y * (1 / FRAME) - 0.5)
    for _ in range(integer(rng, 0, 4)):
        top = uniform(rng, 0, FRAME)
        image = paint(image, band(canvas, top, top + log_uniform(rng, 1, 25)), grey + uniform(rng, -0.1, 0.15))
    return image


def _furnished(
    rng: Rng, canvas: Canvas, image: Field, metal: float, first: float, pitch: float, top: float, bottom: float
) -> Field:
    """Return the dielectric with what lies between and behind the columns and is no defect.

    Rungs that join neighbouring columns, rows of small wires, a layer that follows the topography.
    """
    if chance(rng, 0.3):
        phase = np.mod(canvas.x - first, 2 * pitch)  # between every other pair of columns
        between = coverage(pitch - phase)
        for _ in range(integer(rng, 1, 2)):
            y = uniform(rng, top, bottom)
            rung = band(canvas, y, y + log_uniform(rng, 2, 16)) * between
            image = paint(image, rung, metal * uniform(rng, 0.4, 1.05))
    if chance(rng, 0.25):
        period, y = log_uniform(rng, 5, 26), uniform(rng, -4, FRAME)
        half, height = period * uniform(rng, 0.2, 0.4), log_uniform(rng, 3, 14)
        wire = half - np.abs(np.mod(canvas.x - uniform(rng, 0, 20), period) - period / 2)
        for row in range(integer(rng, 1, 4)):
            start = y + row * height * 1.7
            ends = np.minimum(canvas.y - start, start + height - canvas.y)
            image = paint(image, coverage(np.minimum(wire, ends)), metal * uniform(rng, 0.5, 1.05))
    if chance(rng, 0.15):
        wave = uniform(rng, 1, 8) * np.cos((canvas.axis - first) * (2 * np.pi / pitch))
        start = top - uniform(rng, 2, 16)
        image = paint(image, band(canvas, start, start + log_uniform(rng, 1.5, 7), wave), uniform(rng, 0.3, 1.0))
    return image


def _segments(
    rng: Rng, count: int, first: float, pitch: float, width: float, top: float, bottom: float, metal: float
) -> tuple[Segment, ...]:
    pieces = pick(rng, {1: 4, 2: 3, 3: 2, 4: 1})
    shares = np.cumsum(recorded(rng, rng.uniform(0.5, 1.5, pieces)))
    cuts = [top, *(top + (bottom - top) * shares / shares[-1]).tolist()]
    widths = [width * (log_uniform(rng, 0.5, 1.25) if i else 1.0) for i in range(pieces)]
    tapers = [uniform(rng, -0.05, 0.35) for _ in range(pieces)]
    greys = [metal * uniform(rng, 0.8, 1.05) for _ in range(pieces)]
    if pieces > 1 and chance(rng, 0.35):
        # A landing pad makes a dog-bone of the column.
        pad = one_of(rng, (0, pieces - 1))
        widths[pad] = min(widths[pad] * uniform(rng, 1.4, 2.4), 0.92 * pitch)
    belly = uniform(rng, -0.1, 0.2) if chance(rng, 0.3) else 0.0
    corner = uniform(rng, 0.5, 4.0) if chance(rng, 0.4) else 0.0
    jitter = uniform(rng, 0, 0.1) * width if chance(rng, 0.3) else 0.0
    return tuple(
        Segment(
            column,
            first + column * pitch + jitter * normal(rng),
            cuts[piece],
            cuts[piece + 1],
            widths[piece],
            tapers[piece],
            greys[piece],
            belly,
            corner,
        )
        for column in range(count)
        for piece in range(pieces)
    )


def _front(
    rng: Rng, canvas: Canvas, metal: float, first: float, pitch: float, top: float, bottom: float
) -> tuple[tuple[Field, float], ...]:
    """Draw bars above and below the columns and a floor of transistor teeth."""
    layers: list[tuple[Field, float]] = []
    if chance(rng, 0.55):
        starts = [top - uniform(rng, 4, 20)] if chance(rng, 0.6) else []
        starts += [bottom] if chance(rng, 0.6) else []
        for start in starts:
            cover = band(canvas, start, start + log_uniform(rng, 5, 36))
            if chance(rng, 0.4):
                phase = np.mod(canvas.x - (first - pitch / 2), pitch)
                cover = cover * coverage(phase - pitch * uniform(rng, 0.1, 0.3), 2.0)
            layers.append((cover, metal * uniform(rng, 0.7, 1.1)))
    if chance(rng, 0.45):
        period = log_uniform(rng, 8, 30)
        tooth = np.abs(np.mod(canvas.x - uniform(rng, 0, 20), period) - period / 2) - uniform(rng, 0.5, 0.25 * period)
        floor = min(bottom + uniform(rng, -4, 4), FRAME - 8)
        layers.append((coverage(np.minimum(tooth, canvas.y - floor)), metal * uniform(rng, 0.1, 1.0)))
    return tuple(layers)


def shortened(segment: Segment, bottom: float) -> Segment:
    """Return the segment ending at height ``bottom`` with unchanged side walls."""
    share = (bottom - segment.top) / (segment.bottom - segment.top)
    return replace(segment, bottom=bottom, taper=segment.taper * share, belly=0.0)


def split(segment: Segment, share: float) -> tuple[Segment, Segment]:
    """Return the upper and lower part of a segment cut at a share of its height, with unchanged side walls."""
    cut = segment.top + share * (segment.bottom - segment.top)
    width = segment.width * (1.0 - segment.taper * share)
    taper = 1.0 - segment.width * (1.0 - segment.taper) / width
    return shortened(segment, cut), replace(segment, top=cut, width=width, taper=taper, belly=0.0)
