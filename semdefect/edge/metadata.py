"""What an exported model says about itself: one ONNX metadata property holding JSON.

The export stage writes ``{METADATA_KEY: metadata.to_json()}`` into the model, the device reads it back.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from semdefect.edge.checks import digits, field, number, wrong
from semdefect.edge.guard import Guard
from semdefect.edge.image import SIZE
from semdefect.edge.pair import Pair
from semdefect.errors import UserError

#: Name of the ONNX metadata property.
METADATA_KEY = "semdefect"

#: Number of the layout below. A reader refuses any other.
FORMAT = 2

#: What ``semdefect.edge.image`` does. A model that expects anything else is refused.
PREPROCESSING: dict[str, Any] = {"mode": "L", "size": SIZE, "resample": "bilinear", "range": [0, 1]}

#: ``int8``: weights and activations, computed in integers; ``int8-weights``: weights alone, computed in FP32.
PRECISIONS = ("fp32", "int8", "int8-weights")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}").fullmatch


@dataclass(frozen=True)
class ModelMetadata:
    """The contract between export and device.

    Attributes:
        classes: class names in the order of the logits; at least two, all different, of letters, digits, _ and -.
        temperature: the logits are divided by it before the softmax; > 0.
        guard: which predictions a person has to look at; as many thresholds as classes.
        precision: one of ``PRECISIONS``.
        checkpoint_sha256: hash of the checkpoint that was exported, 64 lower-case hexadecimal digits.
        pairs: with which full models it can be used as the cheap one, by the precision of their file.

    Raises:
        UserError: when a value is outside its range, naming the field.
    """

    classes: tuple[str, ...]
    temperature: float
    guard: Guard
    precision: str
    checkpoint_sha256: str
    pairs: Mapping[str, Pair] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every field, so that neither a writer nor a reader can hold an invalid one."""
        _check_classes(self.classes)
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "temperature", number(self.temperature, "temperature", 0.0, math.inf))
        self._check_thresholds(self.guard, "guard.thresholds")
        if self.temperature == 0:
            raise UserError("model metadata: temperature must be above 0; export the model again")
        if self.precision not in PRECISIONS:
            raise wrong("precision", " or ".join(PRECISIONS), self.precision)
        digits(self.checkpoint_sha256, "checkpoint_sha256")
        for precision, pair in self.pairs.items():
            if precision not in PRECISIONS:
                raise wrong("pairs", f"JSON objects under {' or '.join(PRECISIONS)}", precision)
            self._check_thresholds(pair.guard, "pairs.guard.thresholds")

    def _check_thresholds(self, guard: Guard, name: str) -> None:
        if len(guard.thresholds) != len(self.classes):
            raise wrong(name, f"{len(self.classes)} numbers, one a class", guard.thresholds)

    def to_json(self) -> str:
        """The metadata on one line of JSON; equal metadata give equal bytes."""
        content = {
            "format": FORMAT,
            "classes": list(self.classes),
            "preprocessing": PREPROCESSING,
            "temperature": self.temperature,
            "guard": self.guard.content(),
            "precision": self.precision,
            "checkpoint_sha256": self.checkpoint_sha256,
        }
        if self.pairs:
            content["pairs"] = {precision: pair.content() for precision, pair in self.pairs.items()}
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
            raise wrong("the whole", "a JSON object", content)
        if field(content, "format") != FORMAT or isinstance(content["format"], bool):
            wanted = f"{FORMAT}, the format this version of semdefect reads"
            raise wrong("format", wanted, content["format"])
        if field(content, "preprocessing") != PREPROCESSING:
            wanted = f"{PREPROCESSING}, which is what this version of semdefect does"
            raise wrong("preprocessing", wanted, content["preprocessing"])
        return cls(
            classes=field(content, "classes"),
            temperature=field(content, "temperature"),
            guard=Guard.from_content(field(content, "guard")),
            precision=field(content, "precision"),
            checkpoint_sha256=field(content, "checkpoint_sha256"),
            pairs=_pairs(content.get("pairs", {})),
        )


def _pairs(content: Any) -> dict[str, Pair]:
    if not isinstance(content, dict):
        raise wrong("pairs", "a JSON object", content)
    return {precision: Pair.from_content(pair) for precision, pair in content.items()}


def _check_classes(classes: Any) -> None:
    """Class names become folders of images under review, so they may not lead elsewhere."""
    listed = isinstance(classes, (list, tuple)) and all(isinstance(name, str) and _NAME(name) for name in classes)
    if not listed or len(classes) < 2 or len(set(classes)) < len(classes):
        raise wrong(
            "classes",
            "a list of two or more different names: a letter or digit, then up to 63 of these, _ and -",
            classes,
        )
