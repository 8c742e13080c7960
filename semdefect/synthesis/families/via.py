"""Via: columns in cross-section with a void, a missing, cut or painted-over part, or a shifted piece."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..canvas import Canvas, Field
from ..columns import Segment, Stack, sample_stack, shortened, split
from ..fields import coverage, sample_blob, texture
from ..painting import outline, paint
from ..registry import family
from ..sampling import Rng, chance, integer, log_uniform, one_of, pick, sign, uniform
from ..scene import Scene


def _victims(rng: Rng, stack: Stack) -> list[int]:
    """Draw one, sometimes two columns that get the defect."""
    columns = stack.columns
    first = one_of(rng, columns)
    others = [column for column in columns if column != first]
    return [first, one_of(rng, others)] if others and chance(rng, 0.35) else [first]


def _longest(segments: list[Segment]) -> Segment:
    return max(segments, key=lambda segment: segment.bottom - segment.top)


def _scene(stack: Stack, signal: Field, twin: Field, mask: Field, kind: str, painted: bool = True) -> Scene:
    params: dict[str, Any] = {
        "layout": "columns",
        "columns": len({segment.column for segment in stack.segments}),
        "pitch": round(stack.pitch, 3),
        "inverted": stack.inverted,
    }
    return Scene(
        stack.finish(signal), stack.finish(twin), mask, kind, max(stack.width, 6.0), painted=painted, params=params
    )


def _edited(stack: Stack, canvas: Canvas, segments: tuple[Segment, ...], kind: str) -> Scene:
    """Return the scene of changed segments; the mask is the metal that came or went."""
    twin, before = stack.draw(canvas, stack.segments)
    signal, after = stack.draw(canvas, segments)
    return _scene(stack, signal, twin, np.abs(after - before), kind, painted=False)


def _inside(rng: Rng, stack: Stack, column: int) -> tuple[Segment, float]:
    """Draw a segment of a column, longer ones preferred, and a height inside it and the frame."""
    segments = stack.of_column(column)
    segment = segments[pick(rng, {i: max(piece.bottom - piece.top, 1.0) for i, piece in enumerate(segments)})]
    low, high = max(segment.top + 2, 14.0), min(segment.bottom - 2, 114.0)
    return segment, uniform(rng, low, high) if high > low else (segment.top + segment.bottom) / 2


@family("via", "void", weight=22)
def void(rng: Rng, canvas: Canvas) -> Scene:
    """Draw a dark void inside a via, some with a bright rim."""
    stack = sample_stack(rng, canvas)
    twin, _ = stack.draw(canvas, stack.segments)
    signal, mask = twin, canvas.full()
    grey, rim = uniform(rng, 0, 0.2), uniform(rng, 0, 0.25)
    for column in _victims(rng, stack):
        segment, y = _inside(rng, stack, column)
        rx = max(segment.width * uniform(rng, 0.14, 0.38), 1.6)
        ry = max(segment.width * uniform(rng, 0.2, 1.2), 2.0)
        cx = segment.cx + uniform(rng, -0.12, 0.12) * segment.width
        sdf = sample_blob(rng, cx, y, rx, min(ry, 30), uniform(rng, 0.05, 0.3)).sdf(canvas)
        cover = coverage(sdf)
        signal = outline(paint(signal, cover, grey), sdf, rim, 1.3)
        mask = np.maximum(mask, cover)
    return _scene(stack, signal, twin, mask, "void")


@family("via", "short", weight=20)
def short(rng: Rng, canvas: Canvas) -> Scene:
    """End a via too high, or leave out its lower part; a whole one beside it shows how long it should be."""
    stack = sample_stack(rng, canvas, least=2)
    segments = stack.segments
    for column in _victims(rng, stack)[: len(stack.columns) - 1 or 1]:
        last = stack.of_column(column)[-1]
        end = last.top + (last.bottom - last.top) * uniform(rng, 0.0, 0.75)
        end = min(end, 112.0)
        keep = shortened(last, end) if end - last.top > 2 else None
        segments = tuple(
            piece for piece in (keep if segment is last else segment for segment in segments) if piece is not None
        )
    return _edited(stack, canvas, segments, "short")


@family("via", "sliver", weight=18)
def sliver(rng: Rng, canvas: Canvas) -> Scene:
    """Cut a via by a sliver in the tone of the dielectric."""
    stack = sample_stack(rng, canvas)
    twin, metal = stack.draw(canvas, stack.segments)
    signal, mask = twin, canvas.full()
    for column in _victims(rng, stack):
        segment, y = _inside(rng, stack, column)
        half = segment.width * 0.7 + 2
        sdf = sample_blob(
            rng,
            segment.cx,
            y,
            half,
            log_uniform(rng, 1.5, 12),
            uniform(rng, 0.05, 0.3),
            uniform(rng, -0.4, 0.4),
            uniform(rng, 2, 5),
        ).sdf(canvas)
        cover = coverage(sdf)
        signal = paint(signal, cover, stack.dielectric + uniform(rng, -0.08, 0.08))
        mask = np.maximum(mask, cover * metal)
    return _scene(stack, signal, twin, mask, "sliver")


@family("via", "brush", weight=24)
def brush(rng: Rng, canvas: Canvas) -> Scene:
    """Hide part of a via under a flat stroke: black, dielectric, white or any grey."""
    stack = sample_stack(rng, canvas)
    twin, _ = stack.draw(canvas, stack.segments)
    segment, y = _inside(rng, stack, one_of(rng, stack.columns))
    grey = pick(rng, {"black": 3, "dielectric": 3, "any": 2, "white": 1})
    value = {"black": 0.0, "dielectric": stack.dielectric, "any": uniform(rng, 0, 1), "white": 1.0}[grey]
    cover = canvas.full()
    angle, half = uniform(rng, -0.3, 0.3), log_uniform(rng, 8, 36)
    for _ in range(integer(rng, 1, 3)):
        stroke = sample_blob(
            rng,
            segment.cx + uniform(rng, -8, 8),
            y + uniform(rng, -4, 4),
            half * uniform(rng, 0.7, 1.1),
            log_uniform(rng, 4, 16),
            uniform(rng, 0.08, 0.2),
            angle + uniform(rng, -0.15, 0.15),
            3.0,
        )
        cover = np.maximum(cover, coverage(stroke.sdf(canvas)))
    return _scene(stack, paint(twin, cover, value), twin, cover, "brush")


@family("via", "porous", weight=6)
def porous(rng: Rng, canvas: Canvas) -> Scene:
    """Fill a via with pores."""
    stack = sample_stack(rng, canvas)
    twin, _ = stack.draw(canvas, stack.segments)
    pores = texture(rng, canvas, uniform(rng, 1.5, 4)) - uniform(rng, 0.2, 1.0)
    cover = canvas.full()
    for column in _victims(rng, stack):
        body = _longest(stack.of_column(column)).sdf(canvas)
        cover = np.maximum(cover, coverage(np.minimum(body - 1.0, pores * 2.0)))
    return _scene(stack, paint(twin, cover, uniform(rng, 0, 0.25)), twin, cover, "porous")


@family("via", "misaligned", weight=5)
def misaligned(rng: Rng, canvas: Canvas) -> Scene:
    """Shift a segment, or the lower part of a single one, sideways against the one above."""
    stack = sample_stack(rng, canvas)
    pieces = stack.of_column(one_of(rng, stack.columns))
    shift = sign(rng) * pieces[-1].width * uniform(rng, 0.3, 0.8)
    if len(pieces) > 1:
        moved: tuple[Segment, ...] = (replace(pieces[-1], cx=pieces[-1].cx + shift),)
    else:
        upper, lower = split(pieces[0], uniform(rng, 0.3, 0.7))
        moved = (upper, replace(lower, cx=lower.cx + shift))
    rest = tuple(segment for segment in stack.segments if segment is not pieces[-1])
    return _edited(stack, canvas, rest + moved, "misaligned")


@family("via", "necking", weight=5)
def necking(rng: Rng, canvas: Canvas) -> Scene:
    """Narrow a via at one height, down to a thread."""
    stack = sample_stack(rng, canvas)
    piece, y = _inside(rng, stack, one_of(rng, stack.columns))
    height = max(min((piece.bottom - piece.top) * 0.35, piece.width * uniform(rng, 0.3, 1.0)), 3.0)
    thin = replace(piece, neck=(y, height, uniform(rng, 0.5, 0.95)))
    return _edited(stack, canvas, stack.replaced(piece, thin), "necking")
