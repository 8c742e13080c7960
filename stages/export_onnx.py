"""Export the student as self-contained ONNX files, FP32 and INT8, and refuse files that disagree.

    dvc repro export_onnx
    python -m stages.export_onnx

Reads models/student/ and data/splits/val.csv; writes models/edge/student_{fp32,int8,w8}.onnx with class names,
preprocessing, calibrated temperature and guard in their metadata, and metrics/export_onnx/.
"""

from pathlib import Path

from semdefect.export import export_student
from semdefect.params import Params
from semdefect.stage import run_stage

CHECKPOINT = Path("models/student/model.safetensors")
EDGE = Path("models/edge")
METRICS = Path("metrics/export_onnx/export.json")


def main(params: Params) -> None:
    """Export, calibrate, compare; nothing is left behind when a bar is not met."""
    export_student(CHECKPOINT, EDGE, METRICS, params.export_onnx, params.base.threads)


if __name__ == "__main__":
    run_stage(main, __doc__)
