"""Defect classification on SEM images: render, train, distil, and run on an edge CPU.

This module imports nothing, so that ``semdefect.edge`` stays light on the device.
"""

__version__ = "0.1.0"

#: The eight classes, in the order of every logit vector and confusion matrix.
CLASSES = ("bridge", "clean", "cmp", "crack", "ler", "open", "other", "via")
