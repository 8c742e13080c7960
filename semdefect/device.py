"""Where training runs: device, precision, threads, processes, through Hugging Face accelerate."""

import argparse
import os
import sys

import psutil
import torch
from accelerate import Accelerator
from accelerate.commands.launch import launch_command_parser
from accelerate.state import PartialState
from accelerate.utils import DataLoaderConfiguration, set_seed

from semdefect.errors import UserError
from semdefect.params import Base


def create_accelerator(base: Base, bf16_pays: bool) -> Accelerator:
    """An accelerator with seeds, deterministic kernels and ``base.threads`` shared by the local processes.

    Does not return where this process has to give way to several (`start_processes`).

    Args:
        base: the ``base`` block of the parameters.
        bf16_pays: whether precision ``auto`` may take bf16; it speeds ConvNeXt up and slows MobileNetV3 down
            on processors.

    Raises:
        UserError: ``base.device`` is not on this machine.
    """
    start_processes()
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
    threads = max(1, base.threads // PartialState().num_processes)
    if PartialState().num_processes > 1 and accelerator.is_main_process:
        print(f"training on {PartialState().num_processes} processes, {threads} thread(s) each")
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # processors take many times longer over numbers below 1e-38
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Takes time, and nothing here reads such memory. (torch's stubs do not know it.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    set_seed(base.seed)
    return accelerator


def use_bf16(base: Base, bf16_pays: bool) -> bool:
    """Whether ``base.precision`` means bf16 here, for a network that it speeds up (``bf16_pays``) or not."""
    if base.precision != "auto":
        return base.precision == "bf16"
    on_gpu = base.device != "cpu" and torch.cuda.is_available()
    native = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu.get_capabilities().get("avx512_bf16", False)
    return bf16_pays and bool(native)


def start_processes() -> None:
    """Become torchrun where ``accelerate launch --cpu --num_processes N`` has started this process, and this one only.

    Accelerate starts several processes on CPUs through MPI; without MPI it starts one and does not say so. torchrun
    needs none.
    """
    started = "RANK" in os.environ or "MASTER_ADDR" not in os.environ  # by torchrun, MPI, or for one process
    if started or os.environ.get("ACCELERATE_USE_CPU") != "True":
        return
    command = psutil.Process().parent().cmdline()
    if "launch" not in command:
        return
    wanted = launch_command_parser().parse_args(command[command.index("launch") + 1 :])
    if (wanted.num_processes or 1) < 2:  # MASTER_ADDR is from elsewhere, a cluster's job say
        return
    main = sys.modules["__main__"].__spec__
    program = ["-m", main.name] if main else [sys.argv[0]]
    os.execv(sys.executable, [sys.executable, "-m", "torch.distributed.run", *_places(wanted), *program, *sys.argv[1:]])


def _places(wanted: argparse.Namespace) -> list[str]:
    """Options of torchrun for the processes that ``accelerate launch`` was asked for: here, or on several machines."""
    machines = wanted.num_machines or 1
    if machines == 1:
        return ["--standalone", "--nproc_per_node", str(wanted.num_processes)]
    if wanted.num_processes % machines or wanted.main_process_ip is None or wanted.main_process_port is None:
        raise UserError(
            f"accelerate launch: on {machines} machines --num_processes is that of all together, a multiple of "
            f"{machines}, and --machine_rank, --main_process_ip and --main_process_port say which is which"
        )
    places = {
        "--nnodes": machines,
        "--node_rank": wanted.machine_rank or 0,
        "--master_addr": wanted.main_process_ip,
        "--master_port": wanted.main_process_port,
        "--nproc_per_node": wanted.num_processes // machines,
    }
    return [str(word) for pair in places.items() for word in pair]
