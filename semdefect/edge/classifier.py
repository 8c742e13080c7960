"""Classify images with an exported model on one CPU.

classifier = EdgeClassifier("models/edge/student_int8.onnx")
prediction = classifier.classify("wafer.png")
print(prediction.label, prediction.confidence, prediction.decision)
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semdefect.edge.digest import check_digest
from semdefect.edge.guard import REASONS, Guard
from semdefect.edge.image import SIZE, is_blank, open_gray, to_gray, to_pixels, to_tensor
from semdefect.edge.metadata import METADATA_KEY, ModelMetadata
from semdefect.edge.runtime import OUTPUTS, RUNTIMES, Answers, Network, OnnxNetwork, OpenVinoNetwork
from semdefect.edge.session import EXPORT_HINT, one_line, open_session
from semdefect.errors import UserError

#: Larger model files are refused unread: as it loads one, ONNX Runtime may take 14 times as much to pack its weights.
#: The largest MobileNetV3 of timm has 53 MB.
MAX_MODEL_BYTES = 2**26

#: Threads that decode images. No more than four, since each may need the memory of the largest image.
DECODERS = min(4, os.cpu_count() or 1)

AnyPath = TypeVar("AnyPath", bound=str | Path)


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image.

    Attributes:
        label: name of the most probable class.
        confidence: its probability, 0..1.
        decision: ``accept`` or ``review`` by a person.
        reason: why a person should look: ``blank``, since the image shows nothing; ``unknown``, since it is unlike
            anything that was trained on; ``ambiguous``, since it lies between ``label`` and ``alternative``;
            ``hurried``, since a cheap model was unsure and no time was left for the full one. None where the prediction
            is accepted.
        alternative: name of the second most probable class.
        unknown: how unlike the images of training it is, 0..1; a score, no probability.
        probabilities: class name to probability, in the model's order; they sum to 1.
        escalated: whether a cheap model was unsure and the full one answered; False where there is one model only.
    """

    label: str
    confidence: float
    decision: str
    reason: str | None
    alternative: str
    unknown: float
    probabilities: dict[str, float]
    escalated: bool = False


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, and why: one sentence that names the file and the fix."""

    error: str


class Classifier(ABC):
    """What classifies images, one after the other. One thread at a time may use it.

    Attributes:
        classes: class names in the order of the probabilities.
        sha256: hash of all that its answers depend on but the time it has, 64 hexadecimal digits: for one model, of its
            file.
    """

    classes: tuple[str, ...]
    sha256: str

    @abstractmethod
    def classify(self, image: str | Path | Image.Image) -> Prediction:
        """Classify one image file or Pillow image of any size and mode.

        Raises:
            UserError: when the image cannot be read; see ``semdefect.edge.image.open_gray``.
        """

    def classify_many(self, paths: Iterable[str | Path]) -> Iterator[Prediction | Failure]:
        """Classify image files; yields one result a path, in order, a ``Failure`` for a bad file.

        Raises:
            UserError: when the network itself fails.
        """
        return (result for _, result in self.stream(paths))

    def stream(self, paths: Iterable[AnyPath]) -> Iterator[tuple[AnyPath, Prediction | Failure]]:
        """``classify_many`` with the path beside each result, for paths that come one by one.

        Files are decoded by ``DECODERS`` threads; ``paths`` is read in another one, a few images ahead. The network
        takes one image at a time: on a CPU that is no slower than batches. Memory does not grow with the number
        of paths.

        Raises:
            UserError: when the network itself fails.
        """
        from semdefect.edge.parallel import in_order  # thread pools, which a single image does not need

        with closing(in_order(_decoded, paths, DECODERS)) as images:
            for path, image in images:
                yield path, image if isinstance(image, Failure) else self.classify(image)


class EdgeClassifier(Classifier):
    """An exported model, ready to run. One thread at a time may use it.

    Attributes:
        path: the model file.
        metadata: what the model says about itself: class names, temperature, guard.
        classes: class names in the order of the logits.
        sha256: hash of the model file: FP32 and INT8 of one checkpoint differ, as do two guards.
    """

    def __init__(
        self,
        model_path: str | Path,
        threads: int = 1,
        runtime: str = "onnxruntime",
        sha256: Collection[str] = (),
    ) -> None:
        """Load ``model_path`` to run on ``threads`` CPU threads, 1..256, with one of ``RUNTIMES``.

        Its hash must be one of ``sha256`` or, where that is empty, the one in ``SHA256SUMS`` beside it, if there is
        such a list.

        Raises:
            UserError: when the file is missing, is no ONNX model, is not one that the pipeline exported, or has another
                hash; or when the runtime is unknown or not installed.
        """
        if runtime not in RUNTIMES:
            raise UserError(f"runtime: must be {' or '.join(RUNTIMES)}, not {runtime}")
        self.path = Path(model_path)
        content = _model_bytes(self.path)
        self.sha256 = hashlib.sha256(content).hexdigest()
        check_digest(self.path, self.sha256, sha256)
        session = open_session(content, self.path, threads, optimized=runtime == "onnxruntime")
        self.metadata = _metadata(session, self.path)
        self.classes, classes = self.metadata.classes, len(self.metadata.classes)
        _check_contract(session, self.path, classes)
        self._network: Network = (
            OnnxNetwork(session) if runtime == "onnxruntime" else _openvino(content, self.path, threads, classes)
        )

    def answers(self, batch: NDArray[np.float32]) -> Answers:
        """Run the network on float32 ``[N, 1, 224, 224]`` in [0, 1]: ``logits [N, classes]`` and ``unknown [N]``.

        Raises:
            ValueError: when the batch has another shape or type.
            UserError: when the network fails or answers with something else than finite numbers.
        """
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1:] != (1, SIZE, SIZE):
            raise ValueError(f"expected float32 [N, 1, {SIZE}, {SIZE}], got {batch.dtype} {list(batch.shape)}")
        try:
            answers = self._network.run(batch)
        except Exception as error:  # ONNX Runtime has no public base class for its exceptions
            raise UserError(f"{self.path}: fails when it runs ({one_line(error)}); {EXPORT_HINT}") from error
        shapes = [(len(batch), len(self.metadata.classes)), (len(batch),)]
        if [values.shape for values in answers] != shapes or not all(np.isfinite(values).all() for values in answers):
            raise UserError(f"{self.path}: does not answer with finite logits and score; {EXPORT_HINT}")
        return answers

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """``answers`` without the score of unknown images: float32 ``[N, classes]``."""
        return self.answers(batch).logits

    def probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """Calibrated probabilities, float64 ``[N, classes]``: softmax of logits / temperature."""
        scaled = np.asarray(logits, dtype=np.float64) / self.metadata.temperature
        powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def classify(self, image: str | Path | Image.Image) -> Prediction:
        """Classify one image file or Pillow image of any size and mode.

        Raises:
            UserError: when the image cannot be read; see ``semdefect.edge.image.open_gray``.
        """
        tensor = tensor_of(image)
        logits, unknown = self.answers(tensor)
        return predicted(self.classes, self.metadata.guard, self.probabilities(logits), unknown, is_blank(tensor))


def tensor_of(image: str | Path | Image.Image) -> NDArray[np.float32]:
    """A file or Pillow image as float32 ``[1, 1, 224, 224]`` in [0, 1].

    Raises:
        UserError: when the image cannot be read; see ``semdefect.edge.image.open_gray``.
    """
    return to_tensor(to_gray(image) if isinstance(image, Image.Image) else open_gray(image))


def predicted(
    classes: tuple[str, ...],
    guard: Guard,
    probabilities: NDArray[np.float64],
    unknown: NDArray[np.float32],
    blank: bool,
    escalated: bool = False,
) -> Prediction:
    """What ``guard`` makes of one image's calibrated ``probabilities [1, classes]`` and ``unknown [1]``."""
    (row,) = probabilities
    best, second = np.argsort(-row, kind="stable")[:2]
    reason = REASONS[guard.codes(probabilities, unknown, blank)[0]]
    return Prediction(
        label=classes[best],
        confidence=float(row[best]),
        decision="review" if reason else "accept",
        reason=reason or None,
        alternative=classes[second],
        unknown=float(unknown[0]),
        probabilities=dict(zip(classes, row.tolist(), strict=True)),
        escalated=escalated,
    )


def _decoded(path: str | Path) -> Image.Image | Failure:
    """An image file at the model's size, so that what waits for the network is small however large the file."""
    try:
        return Image.fromarray(to_pixels(open_gray(path)))
    except UserError as error:
        return Failure(str(error))


def _openvino(content: bytes, path: Path, threads: int, classes: int) -> Network:
    try:
        return OpenVinoNetwork(content, threads, classes)
    except UserError:
        raise
    except Exception as error:  # nor has OpenVINO
        raise UserError(f"{path}: is not a model that OpenVINO loads ({one_line(error)}); {EXPORT_HINT}") from error


def _model_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder; {EXPORT_HINT}")
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise UserError(f"{path}: is larger than {MAX_MODEL_BYTES // 2**20} MiB; {EXPORT_HINT}")
        if not path.is_file() or size == 0:
            raise UserError(f"{path}: is empty or no regular file; {EXPORT_HINT}")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such model; run `dvc repro` to build it, or pass another model") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); check its permissions") from None


def _metadata(session: Any, path: Path) -> ModelMetadata:
    try:
        properties = session.get_modelmeta().custom_metadata_map
    except UnicodeDecodeError:
        raise UserError(f"{path}: holds text that is no UTF-8; {EXPORT_HINT}") from None
    if METADATA_KEY not in properties:
        raise UserError(f"{path}: is an ONNX model without our metadata; {EXPORT_HINT}")
    try:
        return ModelMetadata.from_json(properties[METADATA_KEY])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check_contract(session: Any, path: Path, classes: int) -> None:
    """Refuse a network with other inputs and outputs than ``input``, ``logits`` and ``unknown``."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    try:
        found = [(node.name, node.type, list(node.shape)[1:]) for node in (*inputs, *outputs)]
    except UnicodeDecodeError:
        raise UserError(f"{path}: holds text that is no UTF-8; {EXPORT_HINT}") from None
    shapes = dict(zip(("input", *OUTPUTS), ([1, SIZE, SIZE], [classes], []), strict=True))
    named = [(name, "tensor(float)", shape) for name, shape in shapes.items()]
    if len(inputs) != 1 or found != named or not all(node.shape for node in (*inputs, *outputs)):
        contract = f"a float32 input [N, 1, {SIZE}, {SIZE}] and float32 logits [N, {classes}] and unknown [N]"
        raise UserError(f"{path}: does not have {contract}; {EXPORT_HINT}")
    if any(isinstance(node.shape[0], int) for node in (*inputs, *outputs)):
        raise UserError(f"{path}: takes only batches of a fixed size; {EXPORT_HINT}")
