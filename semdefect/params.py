"""``params.yaml`` as checked, typed objects."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from semdefect.errors import UserError
from semdefect.manifest import LARGEST_SIZE, LEAST_SIZE

PARAMS = "params.yaml"
#: Larger parameter files are refused unread, as are deeper ones.
MAX_BYTES, MAX_DEPTH = 2**16, 20
#: Bits of a whole number; no parameter needs more, and Python prints none of 15 000.
MAX_BITS = 64
#: Sides in px that a network may work at.
LEAST_RESOLUTION, LARGEST_RESOLUTION = 32, 224
#: Of more faults, the number is told.
MAX_FAULTS = 4

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Within = Annotated[float, Field(gt=0, lt=1)]
Resolution = Annotated[int, Field(ge=LEAST_RESOLUTION, le=LARGEST_RESOLUTION)]


class Block(BaseModel):
    """One block of ``params.yaml``: no unknown keys, no silent conversion of types, only finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Shape = TypeVar("Shape", bound=Block)


class Base(Block):
    """What every stage shares."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    threads: Annotated[int, Field(ge=1, le=256)]
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Literal["auto", "fp32", "bf16"]


#: Parameters of `Synthesize` that no image depends on.
WHERE_DRAWN = {"workers", "dask_scheduler"}


class Synthesize(Block):
    """The balanced data set."""

    images_per_class: Annotated[int, Field(ge=8, le=100_000)]
    image_size: Annotated[int, Field(ge=LEAST_SIZE, le=LARGEST_SIZE)]
    augmented_share: Share
    duplicate_correlation: Annotated[float, Field(gt=0, lt=1)]
    workers: Annotated[int, Field(ge=0, le=256)]
    dask_scheduler: str

    @field_validator("dask_scheduler")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        if address and not re.fullmatch(r"(tcp|tls)://[^\s/]+:\d{1,5}", address):
            raise ValueError(
                f'{_short(repr(address))} is no address of a Dask scheduler: write tcp://host:8786, or "" for none'
            )
        return address


class Split(Block):
    """Shares of the three splits."""

    train: Annotated[float, Field(gt=0, lt=1)]
    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Split":
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train + val + test is {total:g} and must be 1")
        return self


class Training(Block):
    """What teacher and student training have in common."""

    model: str
    init: str
    hub_revision: Annotated[str, Field(pattern=r"^[\w./-]+$")]
    real_share: Annotated[float, Field(ge=0, lt=1)]
    fresh_per_class: Annotated[int, Field(ge=0, le=100_000)]
    fresh_size: Annotated[int, Field(ge=32, le=1024)]
    start_resolution: Resolution
    resolution: Resolution
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Literal["adamw", "muon"]
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Share
    random_views: Share
    mixup: Share
    cell_weight: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]

    @field_validator("init")
    @classmethod
    def _start_exists(cls, init: str) -> str:
        # `Path.is_file` raises on a name that is too long for the system
        if init not in ("scratch", "sem", "imagenet") and not os.path.isfile(init):  # noqa: PTH113
            raise ValueError(
                f"there is no file {_short(repr(init))}: use scratch, sem, imagenet or the path of a .safetensors file"
            )
        return init

    @model_validator(mode="after")
    def _grow(self) -> Self:
        if self.start_resolution > self.resolution:
            raise ValueError(f"start_resolution {self.start_resolution} is above resolution {self.resolution}")
        return self

    @model_validator(mode="after")
    def _cells_have_masks(self) -> Self:
        if self.cell_weight and not self.fresh_per_class:
            raise ValueError(
                f"cell_weight {self.cell_weight:g} needs masks, which fresh images alone have: set fresh_per_class "
                "too, or cell_weight to 0"
            )
        return self


class TrainTeacher(Training):
    """The ConvNeXt teacher."""

    model: Annotated[str, Field(pattern="^convnext")]


class Student(Training):
    """The MobileNetV3 student, which last learns to answer alike in FP32 and INT8."""

    model: Annotated[str, Field(pattern="^mobilenetv3")]
    int8_epochs: Annotated[int, Field(ge=1)]
    int8_learning_rate: Positive
    int8_weight: Annotated[float, Field(ge=0)]


class Distill(Student):
    """The student beside a teacher; ``alpha`` weighs the labels, ``1 - alpha`` the teacher."""

    int8_further_epochs: Annotated[int, Field(ge=0)]
    method: Literal["kl", "standardised", "dist"]
    alpha: Share
    temperature: Positive
    fast_resolution: Resolution
    fast_epochs: Annotated[int, Field(ge=1)]
    fast_optimizer: Literal["adamw", "muon"]
    fast_learning_rate: Positive


class ExportOnnx(Block):
    """The bars an exported file must clear, and the guard's promise."""

    torch_tolerance: Positive
    int8_agreement: Share
    fast_agreement: Share
    calibration_per_class: Annotated[int, Field(ge=0, le=100_000)]
    target_purity: Within
    guard_confidence: Within
    unknown_false_alarms: Within


class Noisy(Block):
    """Strength of each corruption of the ``noisy`` test set."""

    shot_noise: Annotated[float, Field(ge=0, le=1)]
    blur: Annotated[float, Field(ge=0, le=20)]
    contrast: Annotated[float, Field(gt=0, le=1)]
    drift: Annotated[float, Field(ge=0, le=20)]
    charging: Annotated[float, Field(ge=0, le=1)]


class Evaluate(Block):
    """The test sets."""

    fresh_per_class: Annotated[int, Field(ge=0, le=100_000)]
    robustness_per_class: Annotated[int, Field(ge=1, le=100_000)]
    attention_per_class: Annotated[int, Field(ge=1, le=100_000)]
    noisy: Noisy


class Params(Block):
    """All of ``params.yaml``: ``base`` and one block a stage."""

    base: Base
    synthesize: Synthesize
    split: Split
    train_teacher: TrainTeacher
    distill: Distill
    export_onnx: ExportOnnx
    evaluate: Evaluate


class PretrainTeacher(TrainTeacher):
    """The ConvNeXt beside the student's weights; ``alpha`` weighs the labels, ``1 - alpha`` the student's answers."""

    alpha: Share
    temperature: Positive


class Pupil(Block):
    """A network of `Together`."""

    model: str
    init: str
    resolution: Resolution
    learning_rate: Positive


class Agreeing(Block):
    """The minutes in `Together` in which FP32 and INT8 of the student learn to agree; 0: none."""

    minutes: Annotated[float, Field(ge=0)]
    learning_rate: Positive
    weight: Annotated[float, Field(ge=0)]
    share: Share


class Together(Block):
    """Teacher, student and a larger network that pretrain beside each other for some minutes; 0: agreement alone."""

    larger: Pupil
    teacher: Pupil
    student: Pupil
    precision: Literal["auto", "fp32", "bf16"]
    minutes: Annotated[float, Field(ge=0)]
    report_minutes: Positive
    pool: Annotated[int, Field(ge=1000, le=10_000_000)]
    fresh_size: Annotated[int, Field(ge=32, le=1024)]
    resolution: Resolution
    batch_size: Annotated[int, Field(ge=2)]
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Share
    cell_weight: Annotated[float, Field(ge=0)]
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    taught_from: Share
    alpha: Share
    temperature: Positive
    agreement: Agreeing


class Pretrain(Block):
    """All of ``pretrain/params.yaml``: the backbones that ``init: sem`` starts from."""

    base: Base
    teacher: PretrainTeacher
    student: Student
    together: Together


def _sentence(error: dict[str, Any], shape: type[Block]) -> str:
    """One pydantic error as ``key: what is wrong (value is …)``."""
    key = _short(".".join(str(part) for part in error["loc"]) or "params")
    if error["type"] == "extra_forbidden":
        block: Any = shape
        for part in error["loc"][:-1]:
            block = block.model_fields[part].annotation
        return f"{key} is not a parameter; allowed here: {', '.join(block.model_fields)}"
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "value_error":  # of a whole block: the sentence says it all
        return f"{key}: {error['ctx']['error']}"
    reason = error["msg"][0].lower() + error["msg"][1:]
    if error["type"].startswith("float") and isinstance(error["input"], str):
        reason += ", written like 0.001 or 1.0e-3"
    if error["type"].startswith("int") and isinstance(error["input"], str):
        reason += ", written like 300"
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"][1:].isalnum():
        reason = f"has to begin with {error['ctx']['pattern'][1:]}, a family of timm"
    return f"{key} is {_short(repr(error['input']))}: {reason}"


def _short(text: str) -> str:
    """As much of a key or value as a message needs."""
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_params(content: Any, source: str, shape: type[Shape]) -> Shape:
    """Validate the parsed ``params.yaml`` as a ``shape``.

    Raises:
        UserError: names ``source``, each wrong key, its value and what is allowed.
    """
    try:
        return shape.model_validate(content)
    except ValidationError as invalid:
        errors = invalid.errors()
        faults = "; ".join(_sentence(dict(error), shape) for error in errors[:MAX_FAULTS])
        more = f"; and {len(errors) - MAX_FAULTS} more" if len(errors) > MAX_FAULTS else ""
        raise UserError(f"{source}: {faults}{more}") from None


def load_params(path: str | Path = PARAMS) -> Params:
    """Read and validate ``params.yaml``; raises as `load_shaped`."""
    return load_shaped(path, Params)


def load_shaped(path: str | Path, shape: type[Shape]) -> Shape:
    """Read and validate a parameter file of ``shape``.

    Raises:
        UserError: the file is missing, is no YAML, holds a key twice, or a value is not allowed.
    """
    path = Path(path)
    own = path == Path(PARAMS)
    try:
        content = _content(path)
    except FileNotFoundError:
        if own:
            raise UserError(f"{path} is not in {Path.cwd()}: run stages from the repository's root") from None
        raise UserError(f"{path} is not there: check the path, and that you are in the repository's root") from None
    except (yaml.YAMLError, ValueError, OverflowError, OSError) as broken:
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(broken).split())[:300]}") from None
    except (LookupError, AttributeError, TypeError):  # which PyYAML does not see coming, as in `seed: !!int ''`
        raise UserError(f"{path} cannot be read as YAML: a value does not go with its explicit tag (!!)") from None
    if not isinstance(content, dict):
        hint = f"restore it with git checkout {path}" if own else f"start from a copy of {PARAMS}"
        raise UserError(f"{path} holds no parameters: {hint}")
    return check_params(content, str(path), shape)


def _content(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ValueError: it is too large, or no regular file.
        OverflowError: it holds a number that is too large.
        YAMLError: it is no YAML that `_Loader` takes, which is a SafeLoader.
    """
    if path.exists() and not path.is_file():  # opening a pipe waits for who writes into it
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 2**10} KiB")
    loader = _Loader(text.decode("utf-8"))
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Refuses what a parameter file does not need and what harms.

    That is a key that stands twice, of which YAML would take the last in silence; aliases, by which a few lines become
    billions; deep nesting; and whole numbers that are too large to be printed in a message.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases (*) are not allowed", self.peek_event().start_mark)
        if self._depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "nested too deeply", self.peek_event().start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)
        twice = sorted(key for key, count in keys.items() if count > 1)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        number: int = super().construct_yaml_int(node)
        if number.bit_length() > MAX_BITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a whole number has more than {MAX_BITS} bits", node.start_mark
            )
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
