"""Procedural SEM images of eight classes, each with the mask of its defect and a record of its parameters.

``render`` draws one image; the package reads no data and keeps no state, so an image follows from its arguments.
``augment`` varies a real image within its class, ``corrupt`` damages an image by stated amounts.
"""

from .augment import augment
from .corruptions import corrupt
from .registry import FAMILIES, check_families, families_of
from .render import RENDERER_VERSION, Rendered, render

__all__ = [
    "FAMILIES",
    "RENDERER_VERSION",
    "Rendered",
    "augment",
    "check_families",
    "corrupt",
    "families_of",
    "render",
]
