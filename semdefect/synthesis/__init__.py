"""Procedural SEM images of eight classes, each with the mask of its defect and a record of its parameters.

``render`` draws one image. The package reads no data and keeps no state: an image follows from its arguments.
"""

from .registry import FAMILIES, families_of
from .render import RENDERER_VERSION, Rendered, render

__all__ = ["FAMILIES", "RENDERER_VERSION", "Rendered", "families_of", "render"]
