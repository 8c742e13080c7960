"""Render one labelled image from a class name and a seed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from semdefect import CLASSES
from semdefect.errors import UserError

from . import families  # noqa: F401  imported so that every family registers itself
from .canvas import Canvas, canvas_of
from .imaging import Exposure, image_scene
from .overlays import add_overlays
from .registry import Family, families_of, find_family, pick_family
from .sampling import Draws, pick
from .scene import Scene

#: Part of every lineage record; raise it when the same seed gives another picture.
RENDERER_VERSION = "1.2"

#: The visibility gate, lengths in units: without it part of the images would carry a wrong label.
LEAST_AREA = 12.0
EDGE_SHARE = 0.05
LEAST_CONTRAST_TO_NOISE = 1.5
#: Roughness repeats along every line, so the eye averages it out of stronger noise than one local defect.
LEAST_ROUGHNESS_TO_NOISE = 0.4
#: With less noise than about five grey levels the eye's own limit counts, full-scale units.
NOISE_FLOOR = 0.02
REDRAWS = 5
#: After the redraws noise falls by this factor; a few more tries follow.
QUIET_FACTOR, QUIET_REDRAWS = 0.3, 10


@dataclass(frozen=True)
class Rendered:
    """One labelled image.

    ``image`` uint8 (S, S); ``mask`` bool (S, S), empty for clean; ``bbox`` (x0, y0, x1, y1) in pixels with
    exclusive ends, or None for clean; ``record`` holds the drawn parameters as JSON values: what is read most by name
    (``scene``, ``imaging``, ``overlays``, ``defects``), and under ``draws`` every number and name drawn for scene,
    imaging and overlays in its order, ``[function, value, value, ...]``. Those of a clean twin are of its source.
    """

    image: np.ndarray
    mask: np.ndarray
    class_name: str
    family: str
    kind: str
    seed: int
    bbox: tuple[int, int, int, int] | None
    record: dict[str, Any]


def render(
    class_name: str,
    seed: int,
    size: int = 224,
    family: str | None = None,
    without: frozenset[str] = frozenset(),
) -> Rendered:
    """Render an image of a class, of a random family (of none named in ``without``, as ``bridge/fork``) or a given one.

    The same arguments give the same bytes in any order and process. A clean image of a family ``<class>_off``
    is exactly the image of that class, seed and size, with the defect off.
    """
    families_of(class_name)  # refuses an unknown class
    seed = int(seed)
    if seed < 0:
        raise UserError(f"seed {seed} is negative: use a whole number from 0")
    if size < 32:
        raise UserError(f"size {size} is too small to render: use at least 32 px")
    if family is None:
        chosen = pick_family(_stream(class_name, seed, 0), class_name, without)
    else:
        chosen = find_family(class_name, family)
    source = _twin_source(chosen, seed) if chosen.twin_of else chosen
    shot = _visible_shot(source, seed, canvas_of(size))
    scene, exposure = shot.scene, shot.exposure
    if chosen.twin_of:
        scene = shot.scene.defect_off()
        imaging = _stream(source.class_name, seed, 3, shot.attempt)
        exposure = image_scene(imaging, scene, canvas_of(size), shot.noise_factor)
    # The source's mask decides about overlays, so that clean twins get exactly those of their defect.
    marks = _stream(source.class_name, seed, 1)
    overlaid = add_overlays(marks, exposure.image, shot.exposure.mask > 0.5)
    mask = np.zeros_like(overlaid.mask) if class_name == "clean" else overlaid.mask
    return Rendered(
        overlaid.image,
        mask,
        class_name,
        chosen.name,
        _kind(chosen, shot),
        seed,
        bounding_box(mask),
        _record(chosen, source, seed, size, shot, scene, exposure, overlaid.names, mask)
        | {"draws": shot.draws | {"overlays": marks.parameters()}},
    )


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return (x0, y0, x1, y1) of the True pixels, ends exclusive; None when there are none."""
    rows, cols = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    if not len(rows):
        return None
    return int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class _Shot:
    """A scene with its exposure, all that was drawn for both, and what is needed to expose its twin likewise."""

    attempt: int
    noise_factor: float
    scene: Scene
    exposure: Exposure
    draws: dict[str, list[list[Any]]]


def _stream(class_name: str, seed: int, *purpose: int) -> Draws:
    """Return the generator of one purpose: 0 family, 1 overlays, 2 scene and 3 imaging of an attempt."""
    return Draws(np.random.SeedSequence([seed, CLASSES.index(class_name), *purpose]))


def _twin_source(chosen: Family, seed: int) -> Family:
    """Return the family that the defect class picks for this seed, or one with a twin if it has none."""
    assert chosen.twin_of is not None
    stream = _stream(chosen.twin_of, seed, 0)
    picked = pick_family(stream, chosen.twin_of)
    if picked.paired:
        return picked
    members = families_of(chosen.twin_of)
    paired = {name: entry.weight for name, entry in members.items() if entry.paired}
    return members[pick(stream, paired)]


def _visible_shot(source: Family, seed: int, canvas: Canvas) -> _Shot:
    """Draw and expose until the defect can be seen; later attempts with less noise, then the clearest one."""
    assert source.draw is not None
    best: tuple[float, _Shot] | None = None
    for attempt in range(1 + REDRAWS + QUIET_REDRAWS):
        factor = 1.0 if attempt <= REDRAWS else QUIET_FACTOR
        drawing, imaging = _stream(source.class_name, seed, 2, attempt), _stream(source.class_name, seed, 3, attempt)
        scene = source.draw(drawing, canvas)
        exposure = image_scene(imaging, scene, canvas, factor)
        draws = {"scene": drawing.parameters(), "imaging": imaging.parameters()}
        shot = _Shot(attempt, factor, scene, exposure, draws)
        if exposure.contrast is None and not scene.structural:  # clean
            return shot
        placed = scene.structural or is_well_placed(exposure.mask > 0.5, canvas)
        seen = exposure.structure if exposure.contrast is None else exposure.contrast
        ratio = seen / max(exposure.noise, NOISE_FLOOR) if placed else 0.0
        against_twin = scene.structural and scene.twin is not None
        if ratio >= (LEAST_ROUGHNESS_TO_NOISE if against_twin else LEAST_CONTRAST_TO_NOISE):
            return shot
        if best is None or ratio > best[0]:
            best = (ratio, shot)
    assert best is not None
    return best[1]


def is_well_placed(inside: np.ndarray, canvas: Canvas) -> bool:
    """Tell whether a mask, bool (S, S), is large enough and its centroid in the central 90 % of the frame."""
    if int(inside.sum()) < LEAST_AREA * canvas.scale**2:
        return False
    border = EDGE_SHARE * canvas.size
    return all(border <= float(places.mean()) <= canvas.size - border for places in np.nonzero(inside))


def _kind(chosen: Family, shot: _Shot) -> str:
    """Return the kind of scene; a twin is no longer of its defect's kind."""
    return chosen.name if chosen.twin_of else shot.scene.kind


def _record(
    chosen: Family,
    source: Family,
    seed: int,
    size: int,
    shot: _Shot,
    scene: Scene,
    exposure: Exposure,
    overlays: list[str],
    mask: np.ndarray,
) -> dict[str, Any]:
    """Return the lineage of an image as JSON values."""
    box = bounding_box(mask)
    defects = []
    if box:
        contrast = exposure.params["contrast"]
        defects = [{"kind": shot.scene.kind, "bbox": list(box), "area_px": int(mask.sum()), "contrast": contrast}]
    return {
        "renderer": RENDERER_VERSION,
        "class": chosen.class_name,
        "family": chosen.name,
        "kind": _kind(chosen, shot),
        "source": f"{source.class_name}/{source.name}",
        "seed": seed,
        "size": size,
        "attempt": shot.attempt,
        "noise_factor": shot.noise_factor,
        "scene": scene.params,
        "imaging": exposure.params,
        "overlays": overlays,
        "defects": defects,
    }
