"""Export both students as self-contained ONNX files, FP32 and INT8, and refuse files that disagree.

    dvc repro export_onnx
    python -m stages.export_onnx

Reads models/student/ and data/splits/val.csv, renders further images to calibrate on
(`export_onnx.calibration_per_class`); writes models/edge/student_{fp32,int8,w8,fast}.onnx with class names,
preprocessing, calibrated temperature and guard in their metadata, their hashes (models/edge/SHA256SUMS), and
metrics/export_onnx/.
"""

from pathlib import Path

from semdefect.atomic import replacing_files
from semdefect.calibration_data import calibration_images
from semdefect.edge.digest import SUMS, write_sums
from semdefect.edge.pair import CHEAP
from semdefect.export import FILES, export_student
from semdefect.export_fast import export_fast
from semdefect.params import Params
from semdefect.stage import run_stage

CHECKPOINT, FAST = Path("models/student/model.safetensors"), Path("models/student/fast.safetensors")
EDGE = Path("models/edge")
METRICS = Path("metrics/export_onnx")


def main(params: Params) -> None:
    """Export, calibrate, compare; where one file does not meet its bar, those of the last export stay."""
    bars, threads = params.export_onnx, params.base.threads
    images = calibration_images(bars.calibration_per_class, params.base.seed)
    names = (*FILES.values(), CHEAP)
    with replacing_files(EDGE, (*names, SUMS)) as unfinished:  # the list last: until then it refuses what is new
        export_student(CHECKPOINT, unfinished, METRICS / "export.json", bars, images, threads)
        export_fast(FAST, unfinished, METRICS / "fast.json", bars, images, threads)
        write_sums([unfinished / name for name in names])


if __name__ == "__main__":
    run_stage(main, __doc__)
