"""The state of a training run on disk, so that a killed run goes on and loses at most one epoch.

It lies in a scratch folder that git and DVC ignore: were it an output, DVC would delete it before the rerun.
"""

import copy
import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from semdefect.atomic import replacing
from semdefect.errors import out_of_memory

SCRATCH = Path(".scratch")


def sources_sha256() -> str:
    """Hex hash of this package's Python files: results of other code are not gone on with."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


@dataclass
class Progress:
    """How far a run is: finished epochs, their figures, and the one that is kept, the best, with its macro-F1."""

    fingerprint: str
    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_macro_f1: float = -1.0


class Checkpoint:
    """Named modules and one optimizer, saved together as safetensors; no pickles."""

    def __init__(self, stage: str, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
        """Keep the state of ``modules`` and ``optimizer`` under ``.scratch/<stage>/``."""
        self.folder = SCRATCH / stage
        self.path = self.folder / "state.safetensors"
        self.modules, self.optimizer = modules, optimizer

    def save(self, progress: Progress) -> None:
        """Write everything needed to go on after ``progress.epoch``, whole or not at all."""
        tensors = {
            f"{name}/{key}": tensor
            for name, module in self.modules.items()
            for key, tensor in module.state_dict().items()
        }
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
        on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        with replacing(self.path) as temporary:
            temporary.write_bytes(save(on_cpu, metadata={"progress": json.dumps(asdict(progress))}))

    def load(self, fingerprint: str) -> Progress:
        """Restore the state of an unfinished run with the same ``fingerprint``, else start anew.

        A file that cannot be read counts as no checkpoint: the run starts over and says so.

        Raises:
            RuntimeError: memory ran out; the file stays.
        """
        fresh = Progress(fingerprint)
        initial = {name: copy.deepcopy(module.state_dict()) for name, module in self.modules.items()}
        try:
            with safe_open(self.path, framework="pt") as file:
                progress = Progress(**json.loads(file.metadata()["progress"]))
            if progress.fingerprint != fingerprint:
                print(
                    f"{self.path} is of a run with other code, data or parameters, after {progress.epoch} epochs; "
                    f"training starts from the first epoch"
                )
                return fresh
            self._restore(load_file(self.path))
        except FileNotFoundError:
            return fresh
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as broken:
            if out_of_memory(broken):  # of a good checkpoint, that a run with more memory goes on from
                raise
            print(f"{self.path} cannot be used ({type(broken).__name__}); training starts from the first epoch")
            for name, module in self.modules.items():
                module.load_state_dict(initial[name])
            return fresh
        return progress

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, module in self.modules.items():
            prefix = f"{name}/"
            state = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
            module.load_state_dict(state)
        saved: dict[int, dict[str, Any]] = {}
        for key, tensor in tensors.items():
            if key.startswith("optimizer/"):
                _, index, entry = key.split("/", 2)
                saved.setdefault(int(index), {})[entry] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": saved})
        for parameter, state in self.optimizer.state.items():
            for entry, tensor in state.items():
                if tensor.shape == parameter.shape:  # the fused update walks memory: both must lie in the same order
                    state[entry] = torch.empty_like(parameter).copy_(tensor)

    def discard(self) -> None:
        """Remove the state; called when the stage has written its results."""
        self.path.unlink(missing_ok=True)  # first, so that a run killed here starts over instead of missing its rest
        shutil.rmtree(self.folder, ignore_errors=True)
