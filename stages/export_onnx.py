"""Export both students as self-contained ONNX files, FP32 and INT8, and refuse files that disagree.

    dvc repro export_onnx
    python -m stages.export_onnx

Reads models/student/ and data/splits/val.csv; writes models/edge/student_{fp32,int8,w8,fast}.onnx with class names,
preprocessing, calibrated temperature and guard in their metadata, and metrics/export_onnx/.
"""

from pathlib import Path

from semdefect.export import export_student
from semdefect.export_fast import export_fast
from semdefect.params import Params
from semdefect.stage import run_stage

CHECKPOINT, FAST = Path("models/student/model.safetensors"), Path("models/student/fast.safetensors")
EDGE = Path("models/edge")
METRICS = Path("metrics/export_onnx")


def main(params: Params) -> None:
    """Export, calibrate, compare; no file is left behind that does not meet its bar."""
    bars, threads = params.export_onnx, params.base.threads
    export_student(CHECKPOINT, EDGE, METRICS / "export.json", bars, threads)
    export_fast(FAST, EDGE, METRICS / "fast.json", bars, threads)


if __name__ == "__main__":
    run_stage(main, __doc__)
