"""Teacher and student networks: a timm backbone behind in-graph resizing and standardisation."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.edge.digest import check_digest
from semdefect.errors import UserError, out_of_memory
from semdefect.params import LARGEST_RESOLUTION, LEAST_RESOLUTION
from semdefect.rounding import add_rounding

#: Weights that `pretrain` made from rendered images, one file an architecture; part of the package.
SEM_WEIGHTS = Path(__file__).parent / "weights"
#: Networks that a checkpoint may be, as a pattern of timm's names.
FAMILIES = ("convnext*", "mobilenetv3*")
#: Standard deviation (full scale 1) under which an image counts as flat; keeps its noise from being blown up.
FLAT = 0.02
#: Standard deviations of a standardised image beyond which nothing is told apart: 0.2 % of the pixels of rendered
#: images, 0.1 % of those of real ones. Uncut, the steps that INT8 has for all pixels were nearly three times as wide.
TAIL = 4.0
#: Blocks of a MobileNet whose activations tell whether an image is of a kind that was trained on: those before the
#: network has forgotten what its classes do not need.
EARLY = 4
#: What is taken of each of their channels: mean, deviation and maximum over the image.
_STATISTICS = 3
#: Larger weight files are refused unread; the largest ConvNeXt of timm has 3.4 GB.
MAX_BYTES = 2**32
#: So are those whose header, a line or so for each tensor, is longer: it takes 40 times as much memory to read.
MAX_HEADER_BYTES = 2**22
#: Hidden units between these statistics and the score.
HIDDEN = 128
#: Channels of the head of a fast student.
WIDE = 288


class SemNetwork(nn.Module):
    """Gray images in, class logits out: ``[N, 1, H, W]`` float32 in [0, 1] → ``[N, 8]``.

    Resizing and standardisation are part of the network, so that the exported file needs no preprocessing beyond
    scaling to [0, 1]. The standardisation removes brightness and contrast, which carry no defect, and bounds the
    activations that INT8 has to represent.

    A defect often fills one cell of a feature map, which average pooling dilutes. So the backbone pools by mean and
    maximum, and a 1 × 1 convolution at stride 16 names a class for each cell; its strongest cells add to the logits.
    Training can show that layer where the defect lies (see `semdefect.losses.cell_loss`).
    """

    def __init__(self, model: str, resolution: int, weights: dict[str, str] | None = None) -> None:
        """Build timm's ``model`` with one input channel and one output a class.

        Weights are random or, where ``weights`` says where timm finds them (``hf_hub_id`` or ``file``), timm's own,
        whose input channels timm sums up and whose last layer it leaves out.
        """
        super().__init__()
        self.model, self.resolution, self.rounded = model, resolution, False
        backbone: Any = timm.create_model(
            model,
            in_chans=1,
            num_classes=len(CLASSES),
            global_pool="avgmax",
            pretrained=weights is not None,
            pretrained_cfg_overlay=weights or {},
        )
        _start_small(backbone.get_classifier())
        self.backbone = backbone
        features = _feature_info(backbone)
        self._level = max(index for index, feature in enumerate(features) if feature["reduction"] == 16)
        self.cells = nn.Conv2d(features[self._level]["num_chs"], len(CLASSES), 1)
        self.evidence = nn.Linear(len(CLASSES), len(CLASSES))
        self.unknown: nn.Sequential | None = None
        self.short_head: ShortHead | None = None

    def shorten(self) -> None:
        """Keep the blocks down to stride 16 of a network with a MobileNetV3, and give it a new head: a fast student.

        Half of the time of a small image goes into what follows, and little of what is known (docs/experiments.md).
        """
        blocks = self.backbone.blocks[: self._stride_16 + 1]
        del self.backbone.conv_head, self.backbone.classifier
        self.backbone.blocks = blocks
        self.short_head = ShortHead(_width(blocks[-1]))

    def add_rounding(self) -> None:
        """Give a network with a MobileNetV3 its INT8 side; see `semdefect.rounding`. The logits stay what they are."""
        add_rounding(self.backbone, [self.cells, self.evidence], self.evidence)
        self.rounded = True

    def add_unknown(self) -> None:
        """Give a network with a MobileNetV3 a score of how unlike its training an image is; see `semdefect.unknown`."""
        inputs = _STATISTICS * sum(_width(block) for block in self.backbone.blocks[:EARLY])
        self.unknown = nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid())

    def early_statistics(self, images: Tensor) -> Tensor:
        """What the score of unknown images sees, ``[N, F]``: see `_statistics`."""
        return _statistics(self._blocks(self._standard(images)))

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[N, 8]`` and how ``unknown [N]``, 0..1, each of ``images [N, 1, H, W]`` is: what is exported."""
        assert self.unknown is not None
        blocks = self._blocks(self._standard(images))
        logits, _ = self._logits(blocks[-1], blocks[self._stride_16])
        return logits, self.unknown(_statistics(blocks))[:, 0]

    def forward(self, images: Tensor, with_cells: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Logits ``[N, 8]`` of ``images [N, 1, H, W]``; ``with_cells`` adds cell logits ``[N, 8, R/16, R/16]``."""
        standard = self._standard(images)
        if self.short_head:
            blocks = self._blocks(standard)
            features, middle = blocks[-1], blocks[self._stride_16]
        else:
            features, (middle,) = self.backbone.forward_intermediates(standard, indices=[self._level])
        logits, cells = self._logits(features, middle)
        return (logits, cells) if with_cells else logits

    def _standard(self, images: Tensor) -> Tensor:
        if images.shape[-1] != self.resolution:
            images = resize(images, self.resolution)
        return standardise(images)

    def _blocks(self, standard: Tensor) -> list[Tensor]:
        """Output of each block of a MobileNetV3; the last is what `forward_head` takes."""
        values, outputs = self.backbone.bn1(self.backbone.conv_stem(standard)), []
        for block in self.backbone.blocks:
            values = block(values)
            outputs.append(values)
        return outputs

    @property
    def _stride_16(self) -> int:
        """Number of the last block at stride 16 of a MobileNetV3."""
        return int(_feature_info(self.backbone)[self._level]["module"].removeprefix("blocks."))

    def _logits(self, features: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and cell logits of what the last block and the one at stride 16 give."""
        cells: Tensor = self.cells(middle)
        strongest = cells.amax(dim=(2, 3))
        head = self.short_head or self.backbone.forward_head
        return head(features) + self.evidence(strongest), cells


class ShortHead(nn.Module):
    """The head of a shortened network: a 1 × 1 convolution, mean and maximum of each channel, a linear layer."""

    def __init__(self, channels: int) -> None:
        """For features of ``channels``."""
        super().__init__()
        self.widen, self.classifier = nn.Conv2d(channels, WIDE, 1), nn.Linear(2 * WIDE, len(CLASSES))
        _start_small(self.classifier)

    def forward(self, features: Tensor) -> Tensor:
        """``[N, C, h, w]`` → logits ``[N, 8]``."""
        wide = functional.hardswish(self.widen(features))
        logits: Tensor = self.classifier(torch.cat([wide.mean(dim=(2, 3)), wide.amax(dim=(2, 3))], dim=1))
        return logits


def _start_small(classifier: Any) -> None:
    """Draw small weights for a last linear layer.

    timm draws the last layer, which no weights hold, for many classes: with eight its logits are so large that training
    starts with a loss of 8 and gradients a hundred times too long.
    """
    nn.init.trunc_normal_(classifier.weight, std=0.01)
    nn.init.zeros_(classifier.bias)


def _width(block: Any) -> int:
    """Output channels of a block of a MobileNetV3."""
    last = block[-1]
    channels: int = getattr(last, "conv_pwl", last.conv_pw).out_channels
    return channels


def _feature_info(backbone: Any) -> list[dict[str, Any]]:
    """What timm says of each of the backbone's levels."""
    levels: list[dict[str, Any]] = getattr(backbone.feature_info, "info", backbone.feature_info)
    return levels


def _statistics(blocks: list[Tensor]) -> Tensor:
    """Mean, deviation and maximum ``[N, F]`` of each channel behind the first `EARLY` of ``blocks``.

    Means alone say how much of a texture there is, the other two how it is spread: a photograph has it in places.
    """
    parts = []
    for values in blocks[:EARLY]:
        mean = values.mean(dim=(2, 3), keepdim=True)
        deviation = (values - mean).square().mean(dim=(2, 3)).sqrt()
        parts += [mean[:, :, 0, 0], deviation, values.amax(dim=(2, 3))]
    return torch.cat(parts, dim=1)


def standardise(images: Tensor) -> Tensor:
    """Each of ``images [N, 1, H, W]`` to zero mean and unit variance, cut off at ±`TAIL`.

    The mean is taken twice: on images of little contrast the rounding error of the first one, which differs between
    torch and ONNX Runtime, would be blown up with the contrast.
    """
    centred = images - images.mean(dim=(2, 3), keepdim=True)
    centred = centred - centred.mean(dim=(2, 3), keepdim=True)
    variance = centred.square().mean(dim=(2, 3), keepdim=True)
    return (centred / torch.sqrt(variance.clamp_min(FLAT**2))).clamp(-TAIL, TAIL)


def resize(images: Tensor, resolution: int) -> Tensor:
    """``images [N, 1, H, W]`` at ``resolution``², bilinear, as the exported graph does it."""
    return functional.interpolate(images, size=(resolution, resolution), mode="bilinear", align_corners=False)


def predict(network: nn.Module, pixels: Tensor, batch_size: int = 64) -> Tensor:
    """Logits ``[N, C]`` float32 on the CPU of ``pixels [N, 1, R, R]`` uint8, in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network(batch.to(device).float() / 255).float().cpu() for batch in pixels.split(batch_size)]
    return torch.cat(parts)


def check_architecture(model: str, family: str, key: str) -> None:
    """Refuse a ``model`` that timm does not have or that is not of the ``family`` (a prefix of timm's names).

    Raises:
        UserError: names the parameter ``key`` and some of what is allowed.
    """
    allowed = timm.list_models(f"{family}*")
    if model not in allowed:
        some = ", ".join(name for name in allowed[:8])
        raise UserError(f"{key} is {model!r}, which is no {family} that timm has; allowed are {some}, …")


def create_network(
    model: str, resolution: int, init: str = "scratch", hub_revision: str = "main", key: str = "init"
) -> SemNetwork:
    """A network from random weights, from this package's, from timm's hub weights or from a file.

    Args:
        model: timm's name of the architecture.
        resolution: working side in px.
        init: ``scratch``, ``sem`` (`SEM_WEIGHTS`, trained on rendered SEM images), ``imagenet`` (timm's hub weights) or
            the path of a .safetensors file: a checkpoint that `save_network` wrote, or timm's own weights of the same
            architecture.
        hub_revision: branch, tag or commit of the hub repository.
        key: the parameter that ``init`` comes from, for messages.

    Raises:
        UserError: the hub cannot be reached, or the file does not fit.
    """
    if init == "scratch":
        return SemNetwork(model, resolution)
    if init == "sem":
        return _from_file(model, resolution, sem_weights(model, key), key)
    if init == "imagenet":
        return _from_hub(model, resolution, hub_revision, key)
    return _from_file(model, resolution, Path(init), key)


def sem_weights(model: str, key: str = "init") -> Path:
    """The file of `SEM_WEIGHTS` for ``model``, as the list of hashes beside it has it.

    Raises:
        UserError: there is none; names those there are. Or it is not what was written.
    """
    path = SEM_WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in SEM_WEIGHTS.glob("*.safetensors"))) or "no model"
        raise UserError(
            f"{key}: sem has no weights for {model}, only for {known}; set it to scratch, or make them with "
            f"`python -m pretrain.teacher` or `.student`"
        )
    check_digest(path, file_sha256(path))
    return path


def _from_hub(model: str, resolution: int, revision: str, key: str) -> SemNetwork:
    """Take the weights at one commit, whatever happens to a branch meanwhile, and say which commit it was."""
    try:
        config = timm.get_pretrained_cfg(model)
        repository = str(config and config.hf_hub_id)
        pinned = re.fullmatch("[0-9a-f]{40}", revision)  # needs no answer from the hub where the weights are cached
        commit = revision if pinned else HfApi().model_info(repository, revision=revision, timeout=10).sha
        network = SemNetwork(model, resolution, {"hf_hub_id": f"{repository}@{commit}"})
    except Exception as unreachable:  # hub clients raise many kinds: connection, HTTP, missing entry, no weights
        raise UserError(
            f"{key}: imagenet needs the weights of {model} from the model hub, which did not come "
            f"({type(unreachable).__name__}); set it to scratch or to the path of a .safetensors file with them"
        ) from None
    print(f"weights of {repository}, commit {commit}; hub_revision={commit} pins it")
    return network


def _from_file(model: str, resolution: int, path: Path, key: str) -> SemNetwork:
    if not path.is_file():
        raise UserError(f"{key}: {path} is missing; allowed are scratch, sem, imagenet and a .safetensors file")
    if path.suffix != ".safetensors":  # timm would unpickle it
        raise UserError(f"{key}: {path} does not end in .safetensors; convert it, other formats can hold programs")
    try:
        declared = _declared(path)
        ours = "semdefect" in declared.about
        if not ours and not _are_of_timm(declared.shapes, model):
            raise UserError(
                f"{key}: {path} does not hold the weights of {model} under timm's names and in its shapes; convert it, "
                f"or set {key} to scratch, sem or imagenet"
            )
        network = load_network(path) if ours else SemNetwork(model, resolution, {"file": str(path)})
    except (OSError, SafetensorError, RuntimeError, KeyError) as broken:
        if out_of_memory(broken):
            raise
        raise UserError(
            f"{key}: {path} does not hold weights of {model} ({type(broken).__name__}); "
            f"allowed are scratch, sem, imagenet and a .safetensors file"
        ) from None
    if network.model != model:
        raise UserError(f"{key}: {path} holds a {network.model}, not a {model}")
    if network.short_head:
        raise UserError(f"{key}: {path} holds a fast student, no whole network; take model.safetensors beside it")
    network.resolution, network.unknown = resolution, None  # the score is learned when all else is done
    return network


def _are_of_timm(shapes: dict[str, tuple[int, ...]], model: str) -> bool:
    """Whether these are the tensors of timm's ``model``, of one channel or three and any number of classes.

    timm itself takes what it knows of a file and draws the rest at random.
    """
    with torch.device("meta"):  # which takes no memory
        plain: Any = timm.create_model(model)
    last, first = (f"{plain.pretrained_cfg[layer]}." for layer in ("classifier", "first_conv"))
    wanted = {name: tuple(value.shape) for name, value in plain.state_dict().items() if not name.startswith(last)}
    found = {name: shape for name, shape in shapes.items() if not name.startswith(last)}
    for counted in [name for name in wanted if name.endswith(".num_batches_tracked") and name not in found]:
        del wanted[counted]  # of no use where the statistics are there
    kernel = f"{first}weight"
    channels = found.get(kernel, ())[1:2]
    if channels in ((1,), (3,)):
        wanted[kernel] = (*wanted[kernel][:1], *channels, *wanted[kernel][2:])
    return found == wanted and len(shapes) - len(found) <= 2  # weight and bias of the last layer


def save_network(network: SemNetwork, path: Path, provenance: dict[str, Any] | None = None, half: bool = False) -> None:
    """Write weights, architecture and resolution as safetensors, whole or not at all.

    The metadata is one JSON string: safetensors writes several keys in random order.

    Args:
        network: what to write.
        path: where to.
        provenance: what the weights come from, JSON values; `read_provenance` gives it back.
        half: weights in float16, half the size; statistics of normalisation layers, whose range is wider, stay as they
            are. `load_network` makes float32 of it again.
    """
    about: dict[str, Any] = {
        "model": network.model,
        "resolution": network.resolution,
        "rounded": network.rounded,
        "unknown": network.unknown is not None,
        "short": network.short_head is not None,
    }
    if provenance is not None:
        about["provenance"] = provenance
    weights = {name for name, _ in network.named_parameters()} if half else set()
    state = {
        name: (tensor.half() if name in weights else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    with replacing(path) as temporary:
        temporary.write_bytes(save(state, metadata={"semdefect": json.dumps(about, sort_keys=True)}))


def read_provenance(path: Path) -> dict[str, Any]:
    """What the weights in ``path`` come from, as `save_network` was told; empty where it was told nothing."""
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("semdefect", "{}"))
    provenance: dict[str, Any] = about.get("provenance", {})
    return provenance


def load_network(path: Path) -> SemNetwork:
    """The network that `save_network` wrote, in evaluation mode.

    Raises:
        UserError: the file is missing or is not a checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a remote has it")
    try:
        declared = _declared(path)
        about = json.loads(declared.about["semdefect"])
        with torch.device("meta"):  # what the file claims to be, before any memory is taken for it
            expected = {name: tuple(value.shape) for name, value in _described(about).state_dict().items()}
        if declared.shapes != expected:
            raise ValueError("other tensors")
        network = _described(about)
        network.load_state_dict(load_file(path))
    except (SafetensorError, LookupError, TypeError, ValueError, RuntimeError, AttributeError) as broken:
        if out_of_memory(broken):
            raise
        raise UserError(f"{path} is not a checkpoint of this project ({type(broken).__name__})") from None
    return network.eval()


def _described(about: dict[str, Any]) -> SemNetwork:
    """A network as the metadata of a checkpoint describe it, of random weights.

    Raises:
        ValueError: its model is not of `FAMILIES`, or its resolution is none that `params.yaml` may ask for.
        LookupError, TypeError, RuntimeError, AttributeError: the metadata lack something, or do not go together.
    """
    model, resolution = about["model"], about["resolution"]
    if model not in timm.list_models(list(FAMILIES)):  # else timm takes names that fetch from a hub or a folder
        raise ValueError("another network")
    if type(resolution) is not int or not LEAST_RESOLUTION <= resolution <= LARGEST_RESOLUTION:
        raise ValueError("another resolution")
    network = SemNetwork(model, resolution)
    if about.get("rounded"):
        network.add_rounding()
    if about.get("short"):
        network.shorten()
    if about.get("unknown"):
        network.add_unknown()
    return network


class _Declared(NamedTuple):
    """The header of a safetensors file: its metadata, and the shape of each tensor."""

    about: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def _declared(path: Path) -> _Declared:
    """What a weight file says of itself; safetensors checks that its tensors fill the file exactly.

    Raises:
        SafetensorError: it is no such file.
        UserError: it is larger than `MAX_BYTES`, or its header than `MAX_HEADER_BYTES`.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than {MAX_BYTES // 2**30} GiB, which no network here needs")
    with path.open("rb") as start:
        header = int.from_bytes(start.read(8), "little")
    if MAX_HEADER_BYTES < header <= path.stat().st_size:  # longer than the file: no such file, as will be said
        raise UserError(f"{path} has a header of {header} bytes, which no network here needs")
    with safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118, no mapping
        return _Declared(file.metadata() or {}, shapes)


def weights_hash(model: str, init: str) -> str:
    """Hash of the file that ``init`` of `create_network` names, or ``init`` itself where it names none."""
    path = sem_weights(model) if init == "sem" else Path(init)
    return file_sha256(path) if path.is_file() else init


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
