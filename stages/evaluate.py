"""Score the exported files, with the teacher beside them, on images that training never saw.

    dvc repro evaluate
    python -m stages.evaluate
    python -m semdefect.summary     # the result as a short table

Reads data/splits/, models/ and what earlier stages measured, renders fresh test images (`evaluate.fresh_per_class`);
writes metrics/evaluate/, metrics/report.html and metrics/MODEL_CARD.md. Fails where two splits share a picture.
"""

import json
from functools import partial
from pathlib import Path

import torch

from semdefect.answers import write_answers
from semdefect.atomic import write_json
from semdefect.attention import attention, attention_sheet, heat_overlays
from semdefect.card_tables import Scored
from semdefect.edge.image import SIZE
from semdefect.evaluation import (
    MODELS,
    PLAIN,
    SHIPPED,
    foreign_figures,
    load_students,
    load_test_sets,
    run_models,
    summarise,
)
from semdefect.foreign import foreign_images
from semdefect.leak_audit import audit_splits, pair_sheet
from semdefect.manifest import SPLITS, read_manifest
from semdefect.model_card import Run, write_model_card
from semdefect.network import load_network
from semdefect.params import Params
from semdefect.plots import error_sheet, write_pictures, write_tables
from semdefect.readiness import class_readiness, content, evidence
from semdefect.report_sections import Findings, read_speed, write_run_report
from semdefect.robustness import robustness, robustness_picture, severity_sheet, some_of_each
from semdefect.seeds import TEST
from semdefect.stage import run_stage
from semdefect.training_data import fresh_images

EDGE = Path("models/edge")
TEACHER, STUDENT = Path("models/teacher/model.safetensors"), Path("models/student/model.safetensors")
METRICS = Path("metrics/evaluate")


def main(params: Params) -> None:
    """Run all models on all test sets; write figures, tables, pictures, report and model card."""
    seed, wanted = params.base.seed, params.evaluate
    torch.set_num_threads(params.base.threads)
    students = load_students(EDGE, params.base.threads)  # what is missing is said before images are rendered
    splits = {name: read_manifest(SPLITS / f"{name}.csv") for name in ("train", "val", "test")}
    audit = audit_splits(splits, TEACHER, params.synthesize.duplicate_correlation)
    pair_sheet(audit.pairs, METRICS / "neighbours.png")
    audit.refuse_leaks()
    sets = load_test_sets(splits["test"], wanted, seed)
    outcomes = run_models(students, TEACHER, sets, params.base.threads)
    details = {name: {key: outcomes[name][key].figures() for key in sets} for name in MODELS}
    foreign = foreign_figures(students, foreign_images(seed))

    student, shown = load_network(STUDENT), fresh_images(wanted.attention_per_class, SIZE, TEST, seed)
    looks = attention(student, shown)
    some = some_of_each(sets.get("fresh", sets["clean"]), wanted.robustness_per_class)
    damaged = robustness({name: students[name] for name in (PLAIN, SHIPPED)}, some, seed)
    promise = params.export_onnx
    ready = class_readiness(
        [row for rows in splits.values() for row in rows],
        evidence(outcomes[SHIPPED], splits["test"]),
        promise.target_purity,
        promise.guard_confidence,
    )
    summary = summarise(outcomes, details, foreign, damaged, looks, audit.figures)

    write_answers(outcomes, sets, SHIPPED, METRICS / "answers.csv")
    write_tables(outcomes[SHIPPED]["mixed"], details[SHIPPED]["mixed"], METRICS)
    write_pictures(outcomes[SHIPPED], students[SHIPPED].metadata.guard, METRICS)
    error_sheet(sets["clean"], outcomes[SHIPPED]["clean"], partial(heat_overlays, student), METRICS / "errors.png")
    robustness_picture(damaged, METRICS / "robustness.png")
    severity_sheet(some.images[0], seed, METRICS / "severities.png")
    attention_sheet(student, shown, METRICS / "attention.png")
    further = {"robustness": damaged, "attention": looks, "leak_audit": audit.content(), "readiness": content(ready)}
    write_json(METRICS / "details.json", details | {"foreign_called_unknown": foreign} | further)
    write_json(METRICS / "summary.json", summary)

    run = Run(params, splits, Scored(sets, splits["test"], outcomes, SHIPPED), students, TEACHER)
    rounding = json.loads(Path("metrics/export_onnx/quantization.json").read_text(encoding="utf-8"))
    found = Findings(
        run, details, summary, damaged, len(some.names), looks, audit.content(), ready, rounding, read_speed()
    )
    write_run_report(found, METRICS, Path("metrics/synthesize/samples.png"), Path("metrics/report.html"))
    write_model_card(run, Path("metrics/MODEL_CARD.md"))


if __name__ == "__main__":
    run_stage(main, __doc__)
