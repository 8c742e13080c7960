"""Train, validation and test splits by lineage group: no base image, nor a near-duplicate, lies in two.

    dvc repro split
    python -m stages.split

Reads data/synthetic/manifest.csv; writes data/splits/{train,val,test}.csv and metrics/split/.
"""

from pathlib import Path

from semdefect.atomic import write_json
from semdefect.manifest import IMAGES, SPLITS, read_manifest, write_manifest
from semdefect.params import Params
from semdefect.splitting import split_rows
from semdefect.stage import run_stage


def main(params: Params) -> None:
    """Split the manifest's rows; images stay where they are."""
    rows = read_manifest(IMAGES / "manifest.csv")
    splits = split_rows(rows, params.split.model_dump(), params.base.seed)
    figures = {}
    for name, members in splits.items():
        write_manifest(SPLITS / f"{name}.csv", members)
        figures[name] = {
            "images": len(members),
            "lineage_groups": len({row.group for row in members}),
            "real_images": sum(row.original for row in members),
        }
    write_json(Path("metrics/split/split.json"), figures)


if __name__ == "__main__":
    run_stage(main, __doc__)
