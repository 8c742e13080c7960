"""Score the exported files, with the teacher beside them, on images that training never saw.

    dvc repro evaluate
    python -m stages.evaluate
    python -m semdefect.summary     # the result as a short table

Reads data/splits/test.csv, models/edge/ and models/teacher/, renders fresh test images (`evaluate.fresh_per_class`);
writes metrics/evaluate/ and metrics/report.html.
"""

from pathlib import Path

import numpy as np

from semdefect.atomic import write_json
from semdefect.evaluation import MODELS, SHIPPED, foreign_figures, load_students, load_test_sets, run_models, summarise
from semdefect.foreign import foreign_images
from semdefect.manifest import SPLITS, read_manifest
from semdefect.params import Params
from semdefect.plots import confusion_picture, error_sheet, purity_picture, reliability_picture, write_tables
from semdefect.report import write_report
from semdefect.stage import run_stage

EDGE = Path("models/edge")
TEACHER = Path("models/teacher/model.safetensors")
METRICS = Path("metrics/evaluate")


def main(params: Params) -> None:
    """Run all models on all test sets; write figures, tables, pictures and the report."""
    students = load_students(EDGE, params.base.threads)  # what is missing is said before images are rendered
    kinds = foreign_images(params.base.seed)
    sets = load_test_sets(read_manifest(SPLITS / "test.csv"), params.evaluate, params.base.seed)
    outcomes = run_models(students, TEACHER, sets, params.base.threads)
    details = {name: {key: outcomes[name][key].figures() for key in sets} for name in MODELS}
    foreign = foreign_figures(students, kinds)
    summary = summarise(outcomes, details, foreign)

    shipped = outcomes[SHIPPED]
    write_tables(shipped["mixed"], details[SHIPPED]["mixed"], METRICS)
    matrices = {key: np.array(details[SHIPPED][key]["confusion"]) for key in sets}
    confusion_picture(matrices, METRICS / "confusion.png")
    mixed = shipped["mixed"]
    curves = {"before scaling": (mixed.raw, mixed.truth), "after scaling": (mixed.probabilities, mixed.truth)}
    reliability_picture(curves, METRICS / "reliability.png")
    purity_picture({key: shipped[key] for key in sets}, students[SHIPPED].metadata.guard, METRICS / "purity.png")
    error_sheet(sets["clean"], shipped["clean"], METRICS / "errors.png")

    write_json(METRICS / "details.json", details | {"foreign_called_unknown": foreign})
    write_json(METRICS / "summary.json", summary)
    pictures = {
        "Confusion, INT8": METRICS / "confusion.png",
        "Reliability, INT8, mixed": METRICS / "reliability.png",
        "Purity against rejection, INT8": METRICS / "purity.png",
        "Most confident errors, INT8, clean": METRICS / "errors.png",
        "Samples of the data set": Path("metrics/synthesize/samples.png"),
    }
    write_report(summary, details, pictures, Path("metrics/report.html"))


if __name__ == "__main__":
    run_stage(main, __doc__)
