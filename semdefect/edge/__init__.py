"""What runs on the device: an image file in, a class, a confidence and a decision out.

    from semdefect.edge import EdgeClassifier

    prediction = EdgeClassifier("models/edge/student_int8.onnx").classify("wafer.png")
    print(prediction.label, prediction.confidence, prediction.decision)

Needs numpy, Pillow and ONNX Runtime (and tqdm for the command line), and knows nothing of training. Training
and evaluation use this package too, so that there is one way from a file to a tensor.
"""

from typing import TYPE_CHECKING, Any

from semdefect.edge.classifier import EdgeClassifier, Failure, Prediction
from semdefect.edge.image import list_images, open_gray, to_pixels, to_tensor
from semdefect.edge.metadata import ModelMetadata

if TYPE_CHECKING:
    from semdefect.edge.adaptive import AdaptiveClassifier

__all__ = [
    "AdaptiveClassifier",
    "EdgeClassifier",
    "Failure",
    "ModelMetadata",
    "Prediction",
    "list_images",
    "open_gray",
    "to_pixels",
    "to_tensor",
]


def __getattr__(name: str) -> Any:
    """Import what most programs do not use when it is asked for (PEP 562): a cold start counts every module."""
    if name == "AdaptiveClassifier":
        from semdefect.edge.adaptive import AdaptiveClassifier

        return AdaptiveClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
