"""The DAG with a user's own images, and where it cannot run: a file of its own for the second process."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from project import ENVIRONMENT, Project, copy_project, rows_of


def write_textures(folder: Path, count: int, seed: int) -> None:
    """Distinct smooth random images, as unlike each other as real ones."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8))
        coarse.resize((128, 128), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")


def test_real_images_join_and_are_scored_apart(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    project.run("git", "init", "-q", "-b", "main")
    for number, label in enumerate(("bridge", "via")):
        write_textures(project.folder / "data/real" / label, 8, number)
    mirrored = Image.open(project.folder / "data/real/bridge/000.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mirrored.save(project.folder / "data/real/via/mirrored.png")
    project.run("dvc", "add", "-q", "data/real/bridge", "data/real/via")
    project.commit("start")
    project.run("dvc", "repro")

    summary = json.loads((project.folder / "metrics/evaluate/summary.json").read_text())
    assert set(summary["accuracy"]) == {"clean", "noisy", "mixed", "fresh", "real"}
    where: dict[str, set[str]] = {}
    for name in ("train", "val", "test"):
        for row in rows_of(project.folder / f"data/splits/{name}.csv"):
            where.setdefault(row["group"], set()).add(name)
    assert all(len(names) == 1 for names in where.values())
    sources = {r["source_id"]: r["group"] for r in rows_of(project.folder / "data/synthetic/manifest.csv")}
    assert sources["via/mirrored.png"] == sources["bridge/000.png"]

    project.commit("with real images")
    clone = Project(tmp_path / "clone")
    project.run("git", "clone", "-q", str(project.folder), str(clone.folder))
    refused = clone.run(sys.executable, "-m", "stages.synthesize", ok=False)
    assert "dvc pull data/real/bridge.dvc" in refused.stderr
    refused = clone.run("dvc", "repro", ok=False)
    assert "data/real/bridge" in refused.stderr


def test_outside_the_repository_outside_git_and_before_the_first_commit(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    assert "git" in project.run("dvc", "repro", ok=False).stderr
    by_hand = project.run(sys.executable, "-m", "stages.train_teacher", ok=False)
    assert "git repository with a commit: run git init" in by_hand.stderr
    stray = subprocess.run(
        [sys.executable, "-m", "stages.split"], cwd=tmp_path, env=ENVIRONMENT | {"PYTHONPATH": str(project.folder)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert stray.returncode == 1 and "run stages from the repository's root" in stray.stderr
    assert "Traceback" not in stray.stderr
    project.run("git", "init", "-q", "-b", "main")
    refused = project.run("dvc", "repro", ok=False)
    assert "git repository with a commit: run git init" in refused.stderr and "Traceback" not in refused.stderr
    assert "with a commit" in project.run("make", "repro", ok=False).stderr
