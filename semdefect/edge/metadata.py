"""What an exported model says about itself: one ONNX metadata property holding JSON.

The export stage writes ``{METADATA_KEY: metadata.to_json()}`` into the model, the device reads it back.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semdefect.edge.image import SIZE
from semdefect.errors import UserError

#: Name of the ONNX metadata property.
METADATA_KEY = "semdefect"

#: Number of the layout below. A reader refuses any other.
FORMAT = 1

#: What ``semdefect.edge.image`` does. A model that expects anything else is refused.
PREPROCESSING: dict[str, Any] = {"mode": "L", "size": SIZE, "resample": "bilinear", "range": [0, 1]}

#: ``int8``: weights and activations, computed in integers; ``int8-weights``: weights alone, computed in FP32.
PRECISIONS = ("fp32", "int8", "int8-weights")


@dataclass(frozen=True)
class ModelMetadata:
    """The contract between export and device.

    Attributes:
        classes: class names in the order of the logits; at least two, all different.
        temperature: the logits are divided by it before the softmax; > 0.
        threshold: the guard accepts a prediction whose confidence is at least this; >= 0, and above 1 the
            guard accepts nothing.
        target_purity: share of accepted predictions that should be right, for which the threshold was chosen;
            0..1.
        precision: one of ``PRECISIONS``.
        checkpoint_sha256: hash of the checkpoint that was exported, 64 lower-case hexadecimal digits.

    Raises:
        UserError: when a value is outside its range, naming the field.
    """

    classes: tuple[str, ...]
    temperature: float
    threshold: float
    target_purity: float
    precision: str
    checkpoint_sha256: str

    def __post_init__(self) -> None:
        """Check every field, so that neither a writer nor a reader can hold an invalid one."""
        _check_classes(self.classes)
        object.__setattr__(self, "classes", tuple(self.classes))
        for field, name, lowest, highest in (
            ("temperature", "temperature", 0.0, math.inf),
            ("threshold", "guard.threshold", 0.0, math.inf),
            ("target_purity", "guard.target_purity", 0.0, 1.0),
        ):
            object.__setattr__(self, field, _number(getattr(self, field), name, lowest, highest))
        if self.temperature == 0:
            raise UserError("model metadata: temperature must be above 0; export the model again")
        if self.precision not in PRECISIONS:
            raise _wrong("precision", " or ".join(PRECISIONS), self.precision)
        digits = self.checkpoint_sha256
        if not isinstance(digits, str) or len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
            raise _wrong("checkpoint_sha256", "64 lower-case hexadecimal digits", digits)

    def to_json(self) -> str:
        """The metadata on one line of JSON; equal metadata give equal bytes."""
        content = {
            "format": FORMAT,
            "classes": list(self.classes),
            "preprocessing": PREPROCESSING,
            "temperature": self.temperature,
            "guard": {"threshold": self.threshold, "target_purity": self.target_purity},
            "precision": self.precision,
            "checkpoint_sha256": self.checkpoint_sha256,
        }
        return json.dumps(content, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read what ``to_json`` wrote. Keys it does not know are ignored.

        Raises:
            UserError: when the text is no JSON object, a field is missing or out of range, or the model wants
                another format or preprocessing than this version has.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise UserError("model metadata: is not JSON; export the model again") from None
        if not isinstance(content, dict):
            raise _wrong("the whole", "a JSON object", content)
        if _field(content, "format") != FORMAT or isinstance(content["format"], bool):
            wanted = f"{FORMAT}, the format this version of semdefect reads"
            raise _wrong("format", wanted, content["format"])
        if _field(content, "preprocessing") != PREPROCESSING:
            wanted = f"{PREPROCESSING}, which is what this version of semdefect does"
            raise _wrong("preprocessing", wanted, content["preprocessing"])
        guard = _field(content, "guard")
        if not isinstance(guard, dict):
            raise _wrong("guard", "a JSON object", guard)
        return cls(
            classes=_field(content, "classes"),
            temperature=_field(content, "temperature"),
            threshold=_field(guard, "threshold", "guard."),
            target_purity=_field(guard, "target_purity", "guard."),
            precision=_field(content, "precision"),
            checkpoint_sha256=_field(content, "checkpoint_sha256"),
        )


def _field(content: Mapping[str, Any], key: str, prefix: str = "") -> Any:
    if key not in content:
        raise UserError(f"model metadata: {prefix}{key} is missing; export the model again")
    return content[key]


def _check_classes(classes: Any) -> None:
    listed = isinstance(classes, (list, tuple)) and all(isinstance(name, str) and name for name in classes)
    if not listed or len(classes) < 2 or len(set(classes)) < len(classes):
        raise _wrong("classes", "a list of two or more different names", classes)


def _number(value: Any, name: str, lowest: float, highest: float) -> float:
    """``value`` as a finite float within both limits."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number) and lowest <= number <= highest:
            return number
    span = f"from {lowest:g} to {highest:g}" if math.isfinite(highest) else f"of at least {lowest:g}"
    raise _wrong(name, f"a finite number {span}", value)


def _wrong(name: str, wanted: str, value: Any) -> UserError:
    shown = str(value) if len(str(value)) <= 60 else str(value)[:57] + "..."
    return UserError(f"model metadata: {name} must be {wanted}, not {shown}; export the model again")
