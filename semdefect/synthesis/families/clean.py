"""Clean: no defect. Most scenes are those of a defect class, same random numbers, with the defect off.

So neither the background nor the imaging can tell clean from the rest; a network has to look for the defect.
"""

from ..canvas import Canvas
from ..columns import sample_stack
from ..layouts import sample_lines
from ..registry import Family, family, register
from ..sampling import Rng, uniform
from ..scene import Scene
from ..shading import sample_surface
from ..solder import sample_solder
from ..topdown import sample_background, sample_orientation, turned

# Top-down 57 %, via sections 23 %, solder sections 20 %; defect-off twins two thirds.
for _source, _weight in {
    "bridge": 11,
    "open": 11,
    "ler": 6,
    "cmp": 8,
    "other": 5,
    "via": 15,
    "crack": 12,
}.items():
    register(Family("clean", f"{_source}_off", _weight, twin_of=_source))


@family("clean", "line_space", weight=8)
def line_space(rng: Rng, canvas: Canvas) -> Scene:
    """Draw lines, drawn from the range of duties that bridge and open cover together."""
    lines = sample_lines(rng, canvas, duty_mean=uniform(rng, 0.48, 0.58))
    surface = sample_surface(rng, canvas, lines.pitch)
    params = {"layout": "lines", "pitch": round(lines.pitch, 3)} | surface.params
    scene = Scene(surface.render(lines.sdf), None, canvas.full(), "line_space", lines.pitch, params=params)
    return turned(scene, sample_orientation(rng))


@family("clean", "pattern", weight=8)
def pattern(rng: Rng, canvas: Canvas) -> Scene:
    """Draw an array or a few large shapes."""
    background = sample_background(rng, canvas, {"array": 5, "shapes": 4, "film": 1})
    scene = Scene(background.signal, None, canvas.full(), "pattern", background.pitch, params=background.params)
    return turned(scene, sample_orientation(rng, 0.8, 0.1))


@family("clean", "via_section", weight=8)
def via_section(rng: Rng, canvas: Canvas) -> Scene:
    """Draw whole vias in cross-section."""
    stack = sample_stack(rng, canvas)
    image, _ = stack.draw(canvas, stack.segments)
    params = {"layout": "columns", "pitch": round(stack.pitch, 3), "inverted": stack.inverted}
    return Scene(stack.finish(image), None, canvas.full(), "via_section", max(stack.width, 6.0), params=params)


@family("clean", "solder_section", weight=8)
def solder_section(rng: Rng, canvas: Canvas) -> Scene:
    """Draw sound solder in cross-section."""
    solder = sample_solder(rng, canvas)
    params = {"layout": "solder", "body": solder.kind}
    return Scene(solder.image, None, canvas.full(), "solder_section", 40.0, params=params)
