"""What `pip install .` brings, and what the training side adds."""

import re
import tomllib

from samples import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(lines):
    return {re.split(r"[=<>\[ ]", line)[0].lower() for line in lines if line and not line.startswith(("#", "-e"))}


def test_the_device_needs_four_packages_and_training_what_is_pinned():
    pinned, _ = (ROOT / "requirements.txt").read_text().split("# Tests and lint")
    extras = PROJECT["optional-dependencies"]
    device, train, dask = names(PROJECT["dependencies"]), names(extras["train"]), names(extras["dask"])
    assert device == {"numpy", "onnxruntime", "pillow", "tqdm"}
    assert device | train | dask - {"semdefect"} == names(pinned.splitlines())
    assert not device & train and not train & dask
