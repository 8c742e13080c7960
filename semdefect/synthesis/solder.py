"""Solder cross-sections: ball, bulb, dome, joint, barrel, pillar, stack or plate, with pads and textures."""

import math
from dataclasses import dataclass

import numpy as np

from .canvas import FRAME, Canvas, Field
from .fields import box_sdf, coverage, fractal, rough_edges, sample_blob, smooth_max, texture
from .painting import interface, outline, paint
from .sampling import Rng, chance, integer, log_uniform, pick, uniform

BODIES = {"ball": 16, "bulb": 8, "dome": 15, "joint": 18, "barrel": 12, "pillar": 12, "stack": 12, "plate": 11}


@dataclass(frozen=True)
class Solder:
    """A drawn section: ``image`` (S, S), the body's SDF, its grey, and where its main interface lies.

    ``seam`` (S,) is the interface's height per column in units; cracks follow it.
    """

    image: Field
    body: Field
    kind: str
    grey: float
    seam: Field


def sample_solder(rng: Rng, canvas: Canvas) -> Solder:
    """Draw a section: a body of grey .42–.98 over 0–.3 that fills most of the frame, with pads."""
    kind = pick(rng, BODIES)
    image = canvas.full(uniform(rng, 0.0, 0.3))
    if chance(rng, 0.35):
        image += (texture(rng, canvas, uniform(rng, 1.5, 4)) > 0.6) * uniform(rng, 0, 0.1)
    grey = uniform(rng, 0.42, 0.98)
    body, bottom = _body(rng, canvas, kind)
    image = paint(image, coverage(body), _filling(rng, canvas, grey))
    if chance(rng, 0.3):
        image = outline(image, body, uniform(rng, 0.05, 0.35), uniform(rng, 0.7, 2))
    if kind in ("ball", "bulb", "joint", "barrel", "pillar"):
        image, seam = _pads(rng, canvas, image, body, bottom)
    elif kind == "stack":
        image, seam = _layers(rng, canvas, image)
    else:
        seam = canvas.axis * 0.0 + bottom
        if kind == "dome" and chance(rng, 0.6):
            image = paint(image, coverage(canvas.y - bottom), uniform(rng, 0.05, 0.5))
    return Solder(image, body, kind, grey, seam.astype(np.float32))


def _body(rng: Rng, canvas: Canvas, kind: str) -> tuple[Field, float]:
    """Draw the body's SDF and the height of its lower face in units."""
    cx = FRAME / 2 + uniform(rng, -8, 8)
    if kind == "ball":
        power = uniform(rng, 2, 2.8)
        rx, ry = FRAME * uniform(rng, 0.36, 0.52), FRAME * uniform(rng, 0.38, 0.5)
        ball = sample_blob(rng, cx, FRAME * uniform(rng, 0.45, 0.55), rx, ry, 0.012, power=power)
        top, bottom = FRAME * uniform(rng, 0, 0.12), FRAME * uniform(rng, 0.8, 0.96)
        return np.minimum(ball.sdf(canvas, 60), np.minimum(canvas.y - top, bottom - canvas.y)), bottom
    if kind == "bulb":
        return _bulb(rng, canvas, cx)
    if kind == "dome":
        bottom = FRAME * uniform(rng, 0.75, 0.97)
        rx, ry = FRAME * uniform(rng, 0.3, 0.46), FRAME * uniform(rng, 0.4, 0.56)
        dome = sample_blob(rng, cx, bottom * uniform(rng, 0.5, 0.85), rx, ry, 0.012)
        return np.minimum(dome.sdf(canvas, 60), bottom - canvas.y), bottom
    if kind in ("joint", "barrel"):
        return _waisted(rng, canvas, cx, bulge=(0.04, 0.18) if kind == "barrel" else (-0.1, 0.05))
    if kind == "pillar":
        cy, hy = FRAME * uniform(rng, 0.4, 0.5), FRAME * uniform(rng, 0.32, 0.44)
        return box_sdf(canvas.x, canvas.y, cx, cy, FRAME * uniform(rng, 0.26, 0.46), hy, 2.0), cy + hy
    if kind == "plate":
        return canvas.full(50.0), FRAME * uniform(rng, 0.3, 0.8)
    height = FRAME * uniform(rng, 0.05, 0.4)
    face = interface(rng, canvas, uniform(rng, 0, 3), 25) + uniform(rng, -0.25, 0.25) * (canvas.axis - 64)
    return canvas.y - height - face[None, :], height


def _bulb(rng: Rng, canvas: Canvas, cx: float) -> tuple[Field, float]:
    """Draw a ball that flows into a narrower or wider foot."""
    bottom, radius = FRAME * uniform(rng, 0.82, 0.98), FRAME * uniform(rng, 0.3, 0.45)
    ball = sample_blob(rng, cx, radius + uniform(rng, -6, 10), radius, radius * uniform(rng, 0.8, 1.1), 0.015)
    half = radius * uniform(rng, 0.5, 1.15)
    foot = box_sdf(canvas.x, canvas.y, cx, bottom - FRAME * 0.15, half, FRAME * 0.15, 2.0)
    return smooth_max(ball.sdf(canvas, 60), foot, uniform(rng, 4, 14)), bottom


def _waisted(rng: Rng, canvas: Canvas, cx: float, bulge: tuple[float, float]) -> tuple[Field, float]:
    """Draw a body with two side walls that bulge or pull in; ``bulge`` bounds in frames."""
    top, bottom = FRAME * uniform(rng, 0.05, 0.2), FRAME * uniform(rng, 0.7, 0.92)
    share = np.clip((canvas.axis - top) * (1.0 / (bottom - top)), 0.0, 1.0)
    upper, lower = FRAME * uniform(rng, 0.25, 0.48), FRAME * uniform(rng, 0.25, 0.48)
    half = upper + (lower - upper) * share + FRAME * uniform(rng, *bulge) * np.sin(math.pi * share)
    half = half + rough_edges(rng, (canvas.size,), uniform(rng, 0, 1.5), 6, 0.6, 1.0 / canvas.scale)
    side = half[:, None] - np.abs(canvas.x - cx)
    return np.minimum(side, np.minimum(canvas.y - top, bottom - canvas.y)), bottom


def _filling(rng: Rng, canvas: Canvas, grey: float) -> Field:
    """Draw the body's texture: flat, speckle, two phases, grains, small pits or fine noise."""
    kind = pick(rng, {"flat": 3, "speckle": 2, "phases": 2, "grain": 1, "pits": 1.2, "fine": 1, "cells": 0.7})
    field = canvas.full(grey)
    if kind == "speckle":
        field += uniform(rng, 0.05, 0.2) * (texture(rng, canvas, uniform(rng, 1.2, 3)) > uniform(rng, 0.8, 1.8))
    elif kind == "phases":
        pattern = texture(rng, canvas, uniform(rng, 3, 8)) + 0.3 * texture(rng, canvas, 2)
        field -= uniform(rng, 0.03, 0.15) * coverage(pattern - uniform(rng, 0, 1), 0.5)
    elif kind == "grain":
        field += uniform(rng, 0.02, 0.08) * texture(rng, canvas, uniform(rng, 6, 25))
    elif kind == "pits":
        field -= uniform(rng, 0.1, 0.5) * (texture(rng, canvas, uniform(rng, 1, 2.5)) > uniform(rng, 1.8, 2.7))
    elif kind == "fine":
        field += uniform(rng, 0.01, 0.05) * texture(rng, canvas, uniform(rng, 1, 2))
    elif kind == "cells":
        walls = np.abs(texture(rng, canvas, uniform(rng, 4, 12)))
        field += uniform(rng, -0.15, 0.12) * np.exp(walls * -6.0)
    return field


def _pads(rng: Rng, canvas: Canvas, image: Field, body: Field, bottom: float) -> tuple[Field, Field]:
    """Paint pads above and below, some with a scallop band of intermetallics; return image and seam."""
    cover = coverage(body)
    seam = canvas.axis * 0.0 + bottom
    for top_pad in (True, False):
        if not chance(rng, 0.8):
            continue
        height, half = FRAME * uniform(rng, 0.05, 0.22), FRAME * uniform(rng, 0.25, 0.5)
        face = height if top_pad else max(FRAME - height, bottom - 2)
        cy = height / 2 - 2 if top_pad else face + height / 2
        pad = box_sdf(canvas.x, canvas.y, FRAME / 2, cy, half, height / 2 + (2 if top_pad else 0), 1.0)
        image = paint(image, coverage(pad), uniform(rng, 0.15, 0.9))
        if not top_pad or chance(rng, 0.4):
            seam = canvas.axis * 0.0 + face
        if chance(rng, 0.4):
            wave = interface(rng, canvas, uniform(rng, 0.8, 3), uniform(rng, 2, 6), 0.6)
            scallops = coverage(uniform(rng, 1.5, 4) - np.abs(canvas.y - face - wave[None, :])) * cover
            image = paint(image, scallops, uniform(rng, 0.3, 0.9))
    if chance(rng, 0.3):
        image = paint(image, coverage(FRAME * uniform(rng, 0.03, 0.12) - canvas.y), uniform(rng, 0.2, 1))
    return image, seam


def _layers(rng: Rng, canvas: Canvas, image: Field) -> tuple[Field, Field]:
    """Paint one to four wavy layers over the body; return the image and one of their faces."""
    seam = canvas.axis * 0.0 + FRAME * 0.6
    for _ in range(integer(rng, 1, 4)):
        face = FRAME * uniform(rng, 0.25, 0.95) + interface(rng, canvas, uniform(rng, 0, 3), 12)
        layer = uniform(rng, 0.1, 0.95) + 0.04 * texture(rng, canvas, 2)
        image = paint(image, coverage(canvas.y - face[None, :]), layer)
        seam = face
    return image, seam


def porous_pattern(rng: Rng, canvas: Canvas, centre: Field, thickness: float) -> Field:
    """Return the coverage (S, S) of pores gathered in a band around ``centre`` (S,), ``thickness`` units."""
    distance = (canvas.y - centre[None, :]) * (1.0 / thickness)
    density = np.exp(-distance * distance)
    pores = fractal(rng, canvas, log_uniform(rng, 3, 8), 3, 0.7)
    return np.clip((0.6 * pores + 2.2 * density - 1.7) * 2.0 + 0.5, 0.0, 1.0)
