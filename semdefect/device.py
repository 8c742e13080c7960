"""Where training runs: device, precision, threads, processes, through Hugging Face accelerate."""

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DataLoaderConfiguration, set_seed

from semdefect.errors import UserError
from semdefect.params import Base


def create_accelerator(base: Base, bf16_pays: bool) -> Accelerator:
    """An accelerator with seeds, deterministic kernels and ``base.threads`` shared by the local processes.

    Args:
        base: the ``base`` block of the parameters.
        bf16_pays: whether precision ``auto`` may take bf16; it speeds ConvNeXt up and slows MobileNetV3 down
            on processors.

    Raises:
        UserError: ``base.device`` is not on this machine.
    """
    available = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.mps.is_available(),
    }
    if not available[base.device]:
        here = ", ".join(name for name, present in available.items() if present)
        raise UserError(f"base.device is {base.device}, which this machine does not have; use one of {here}")
    accelerator = Accelerator(
        cpu=base.device == "cpu" or not (torch.cuda.is_available() or torch.mps.is_available()),
        mixed_precision="bf16" if use_bf16(base, bf16_pays) else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True),  # batch_size is the whole batch
    )
    torch.set_num_threads(max(1, base.threads // PartialState().num_processes))
    torch.set_flush_denormal(True)  # processors take many times longer over numbers below 1e-38
    torch.use_deterministic_algorithms(True, warn_only=True)
    set_seed(base.seed)
    return accelerator


def use_bf16(base: Base, bf16_pays: bool) -> bool:
    """Whether ``base.precision`` means bf16 here, for a network that it speeds up (``bf16_pays``) or not."""
    if base.precision != "auto":
        return base.precision == "bf16"
    on_gpu = base.device != "cpu" and torch.cuda.is_available()
    native = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu.get_capabilities().get("avx512_bf16", False)
    return bf16_pays and bool(native)
