"""An ONNX Runtime session as every device has it: exact sums, bounded memory, no thread that spins."""

from functools import cache
from pathlib import Path
from typing import Any

from semdefect.edge.onnx_file import check_onnx
from semdefect.errors import UserError

#: What the tensors of all models of a process may take together, in bytes. The exported files need 2 MB an image.
MAX_TENSOR_BYTES = 2**30

#: More threads than any edge CPU has are a slip of the finger.
MAX_THREADS = 256

#: Where Linux says what the processor can do.
CPUINFO = Path("/proc/cpuinfo")

#: What to do about a file that is no model of ours.
EXPORT_HINT = "pass a file that the export_onnx stage wrote"


def open_session(content: bytes, path: Path, threads: int, optimized: bool) -> Any:
    """An ONNX Runtime session for the CPU.

    Args:
        content: bytes of the model.
        path: where they come from, for messages.
        threads: from 1 to `MAX_THREADS`.
        optimized: one that is not is there sooner, to be asked about the model and not run.

    Raises:
        UserError: the threads are no such number, or the content is no model that is safe to load.
    """
    if not 1 <= threads <= MAX_THREADS:
        raise UserError(f"threads: must be a number from 1 to {MAX_THREADS}, not {threads}")
    # Imported here, since it takes longer than everything else together and preprocessing does not need it.
    import onnxruntime

    try:
        check_onnx(content)
    except UserError as reason:
        raise UserError(f"{path}: {reason}; {EXPORT_HINT}") from None
    _bound_memory()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised as well, and told in one sentence
    # Without dot products of bytes, an x86 processor's INT8 sums overflow unless asked for the exact ones; with them
    # they are exact, and those that are asked for take a fifth longer.
    if not has_byte_products():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Idle threads that spin while the next image is decoded take the time of whoever decodes it: a whole call on two
    # threads takes 1.5 times as long with them, which the network alone, a fifth faster, does not make up.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        # Its fallback would print on standard output, and try the same again.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no public base class for its exceptions
        raise UserError(f"{path}: is not a model that ONNX Runtime loads ({one_line(error)}); {EXPORT_HINT}") from error


@cache
def has_byte_products() -> bool:
    """Whether this is an x86 processor with dot products of bytes (VNNI), as Linux says; elsewhere nothing does."""
    try:
        with CPUINFO.open(encoding="utf-8", errors="replace") as lines:
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


@cache
def _bound_memory() -> None:
    """Give ONNX Runtime, once a process, `MAX_TENSOR_BYTES` for the tensors of sessions that ask for it."""
    import onnxruntime

    kinds = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo("Cpu", kinds[0], 0, kinds[1]), onnxruntime.OrtArenaCfg({"max_mem": MAX_TENSOR_BYTES})
    )


def one_line(error: Exception) -> str:
    """What ``error`` says, short and without line breaks."""
    return " ".join(str(error).split())[:160] or type(error).__name__
