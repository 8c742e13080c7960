"""The whole DAG on the smoke profile, and the DVC commands that people review changes with."""

import json
import re
import shutil
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import ROOT, Project, rows_of
from test_report_browser import browse, needs_chromium

from benchmarks.kills import VICTIMS, Running
from benchmarks.smoke import STAGES, differing, leftovers, outputs
from semdefect import CLASSES
from semdefect.edge import EdgeClassifier
from semdefect.errors import UserError
from semdefect.network import file_sha256

MODELS = [f"models/edge/student_{name}.onnx" for name in ("fp32", "int8", "w8", "fast")]


def test_first_run_leaves_data_models_metrics_and_report(reproduced: Project) -> None:
    folder = reproduced.folder
    manifest = rows_of(folder / "data/synthetic/manifest.csv")
    assert len(manifest) == 12 * len(CLASSES)
    for row in manifest:
        with Image.open(folder / "data/synthetic" / row["path"]) as image:
            assert (image.size, image.mode) == ((224, 224), "L")
    splits = {name: rows_of(folder / f"data/splits/{name}.csv") for name in ("train", "val", "test")}
    assert sorted(row["path"] for rows in splits.values() for row in rows) == sorted(r["path"] for r in manifest)
    for name in MODELS:
        assert (folder / name).stat().st_size > 500_000
    summary = json.loads((folder / "metrics/evaluate/summary.json").read_text())
    assert set(summary["accuracy"]) == {"clean", "noisy", "mixed", "fresh"}
    assert set(summary["accuracy"]["clean"]) == {"teacher", "adaptive", *(Path(name).stem for name in MODELS)}
    assert summary["duplicates_across_splits"] == 0 and 0 <= summary["damaged_accuracy"]["student_int8"] <= 1
    answers = rows_of(folder / "metrics/evaluate/answers.csv")
    assert len(answers) == 2 * len(splits["test"]) + 2 * len(CLASSES)  # clean and noisy, and fresh
    assert "### The guard" in (folder / "metrics/MODEL_CARD.md").read_text()
    with Image.open(folder / "metrics/synthesize/samples.png") as sheet:
        assert sheet.height > len(CLASSES) * 100


def test_the_list_of_hashes_fits_the_models_and_is_checked(reproduced: Project, tmp_path: Path) -> None:
    folder = shutil.copytree(reproduced.folder / "models/edge", tmp_path / "edge")
    listed = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed == {Path(name).name: file_sha256(reproduced.folder / name) for name in MODELS}
    shutil.copy(folder / "student_fp32.onnx", folder / "student_int8.onnx")  # a good model, but not this one
    with pytest.raises(UserError, match=r"student_int8\.onnx: has been changed since"):
        EdgeClassifier(folder / "student_int8.onnx")
    EdgeClassifier(folder / "student_w8.onnx")


@needs_chromium
def test_the_report_of_a_run_renders_in_a_browser(reproduced: Project, tmp_path: Path) -> None:
    report = shutil.copy(reproduced.folder / "metrics/report.html", tmp_path / "report.html")
    dom, console = browse(Path(report))
    assert console == []
    assert dom.count("<section") >= 10 and "</html>" in dom


def test_data_and_models_stay_out_of_git(reproduced: Project) -> None:
    tracked = reproduced.run("git", "ls-files").stdout.splitlines()
    assert "dvc.lock" in tracked and "metrics/evaluate/summary.json" in tracked
    assert not [name for name in tracked if name.startswith(("data/s", "models/", ".scratch"))]


def test_second_run_has_nothing_to_do(reproduced: Project) -> None:
    again = reproduced.run("dvc", "repro")
    assert reproduced.stages_run(again.stdout) == [] and "up to date" in again.stdout + again.stderr
    assert reproduced.run("git", "status", "--porcelain").stdout == ""
    assert "student INT8" in reproduced.run(sys.executable, "-m", "semdefect.summary").stdout


def test_dag_is_the_documented_chain(reproduced: Project) -> None:
    dag = reproduced.run("dvc", "dag", "--mermaid").stdout
    assert [stage for stage in STAGES if stage not in dag] == []
    # In one process: most of what --help takes is the import of torch.
    asked = f"""import runpy, sys, contextlib
sys.argv[1:] = ["--help"]
for stage in {STAGES}:
    with contextlib.suppress(SystemExit):
        runpy.run_module(f"stages.{{stage}}", run_name="__main__")"""
    assert reproduced.run(sys.executable, "-c", asked).stdout.count("usage:") == len(STAGES)


def test_experiment_reruns_distill_and_after_and_is_reviewable(reproduced: Project) -> None:
    output = reproduced.run("dvc", "exp", "run", "-n", "warm", "-S", "distill.temperature=4").stdout
    assert reproduced.stages_run(output) == ["distill", "export_onnx", "evaluate"]
    assert "distill.temperature" in reproduced.run("dvc", "params", "diff", "main", "warm").stdout
    figures = json.loads(reproduced.run("dvc", "metrics", "show", "--json").stdout)[""]["data"]
    summary = figures["metrics/evaluate/summary.json"]["data"]
    assert {"accuracy", "escape_rate", "guard", "int8_fp32_agreement", "retention_of_teacher"} <= set(summary)
    text = json.dumps(figures)
    assert not re.search("time|second|date", text) and not re.search(r"\d\.\d{7}", text)
    diff = reproduced.run("dvc", "metrics", "diff", "--json", "main", "warm").stdout
    assert "metrics/evaluate/summary.json" in diff and "metrics/train_teacher/metrics.json" not in diff
    plots = reproduced.run("dvc", "plots", "diff", "main", "warm").stdout
    assert "index.html" in plots
    assert "warm" in reproduced.run("dvc", "exp", "show", "--csv").stdout
    reproduced.run("git", "checkout", "-q", ".")
    reproduced.run("dvc", "checkout")


def test_wrong_parameter_stops_before_any_work(reproduced: Project) -> None:
    refused = reproduced.run("dvc", "exp", "run", "-S", "distill.alpha=1.5", ok=False)
    assert "distill.alpha is 1.5" in refused.stdout + refused.stderr
    reproduced.run("git", "checkout", "-q", ".")
    reproduced.run("dvc", "checkout")


def test_killed_in_another_folder_with_other_workers_it_ends_with_the_same_bytes(
    reproduced: Project, tmp_path: Path
) -> None:
    """What `make verify` does, with the session's project as one of the two, and two kills of `benchmarks.kills`."""
    clone = Project(tmp_path / "a folder with another name")
    reproduced.run("git", "clone", "-q", str(reproduced.folder), str(clone.folder))
    params = clone.folder / "params.yaml"
    params.write_text(params.read_text().replace("workers: 0", "workers: 1"))
    killed_in_training(clone, "train_teacher", "train_teacher")
    assert "train_teacher: going on after epoch" in killed_in_training(clone, "distill", "distill_int8")
    rest = clone.run("dvc", "repro").stdout
    assert clone.stages_run(rest) == ["distill", "export_onnx", "evaluate"]
    assert "distill_int8: going on after epoch" in rest
    assert clone.run("git", "status", "--porcelain").stdout == " M params.yaml\n"
    assert len(outputs(reproduced.folder)) > 100 + len(MODELS)
    assert differing(outputs(clone.folder), outputs(reproduced.folder)) == []
    assert leftovers(clone.folder) == []


def killed_in_training(project: Project, stage: str, part: str) -> str:
    """Kill `dvc repro` of ``stage``, with all that it started, after an epoch of ``part``; what it said until then."""
    with Running(project.folder, stage) as running:
        deadline = time.monotonic() + 480
        while not (project.folder / f".scratch/{part}/state.safetensors").exists():
            assert running.dvc.poll() is None, running.output()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert VICTIMS["group"](running)
        return running.output()


def test_device_needs_four_packages_only(reproduced: Project, tmp_path: Path) -> None:
    venv.create(tmp_path / "device", with_pip=True)
    python = str(tmp_path / "device/bin/python")
    subprocess.run([python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        code = [entry for entry in content.infolist() if not entry.filename.endswith(".safetensors")]
    assert sum(entry.compress_size for entry in code) < 1_000_000
    subprocess.run([python, "-m", "pip", "install", "-q", str(wheel)], check=True)
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "torch" not in installed and "scipy" not in installed
    model, data = str(reproduced.folder / MODELS[1]), str(reproduced.folder / "data/synthetic")
    command = [str(tmp_path / "device/bin/semdefect")]
    image = next((reproduced.folder / "data/synthetic/bridge").glob("*.png"))

    def device(*arguments: str) -> str:
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
        ).stdout

    answer = json.loads(device("classify", "--json", "--model", model, str(image)))
    assert answer["label"] in CLASSES and answer["decision"] in ("accept", "review")
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    scored = json.loads(device("score", "--json", "--model", model, "--threads", "2", data))
    assert scored["images"] == 12 * len(CLASSES)
    assert "mean class accuracy" in device("score", "--model", model, data)


def test_training_on_two_processes(reproduced: Project, tmp_path: Path) -> None:
    project = Project(tmp_path / "two")
    shutil.copytree(reproduced.folder, project.folder, ignore=shutil.ignore_patterns("models"))
    said = project.run("accelerate", "launch", "--num_processes", "2", "--cpu", "-m", "stages.train_teacher").stdout
    assert "training on 2 processes" in said and (project.folder / "models/teacher/model.safetensors").is_file()
    for curve in ("train/loss", "val/loss"):  # the same batches: LayerNorm does not mind their halves
        path = f"metrics/train_teacher/plots/metrics/{curve}.tsv"
        one, two = (np.loadtxt(each.folder / path, skiprows=1)[:, 1] for each in (reproduced, project))
        assert two == pytest.approx(one, rel=0.1), curve
