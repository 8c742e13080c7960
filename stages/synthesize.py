"""Base images, real where there are any and rendered otherwise, balanced to the same number a class.

    dvc repro synthesize
    python -m stages.synthesize

Reads data/real/<class>/; writes data/synthetic/<class>/*.png, data/synthetic/manifest.csv and
metrics/synthesize/.
"""

from collections import Counter
from pathlib import Path

from semdefect.atomic import replacing_folder, write_json
from semdefect.balance import conflicting_labels, load_base_images, plan, write_images
from semdefect.base_images import REAL
from semdefect.manifest import IMAGES, write_manifest
from semdefect.params import Params
from semdefect.sheet import sample_sheet
from semdefect.stage import run_stage

METRICS = Path("metrics/synthesize")


def main(params: Params) -> None:
    """Write the data set beside its place, then move it there whole."""
    settings = params.synthesize
    bases = load_base_images(REAL, settings.duplicate_correlation)
    conflicts = conflicting_labels(bases)
    if conflicts:
        first = " and ".join(base.source_id for base in conflicts[0])
        print(
            f"note: near-duplicate real images with different labels, {len(conflicts)} time(s), the first {first}: "
            f"remove what is labelled wrongly"
        )
    for label, count in Counter(base.label for base in bases).items():
        if count > settings.images_per_class:
            print(
                f"note: of {count} real images of {label}, {settings.images_per_class} are drawn: a larger "
                f"synthesize.images_per_class takes all"
            )
    jobs = plan(bases, settings, params.base.seed)
    with replacing_folder(IMAGES) as unfinished:
        rows = write_images(jobs, unfinished, settings.image_size, settings.workers, settings.dask_scheduler)
        write_manifest(unfinished / "manifest.csv", rows)

    sample_sheet(rows, IMAGES, METRICS / "samples.png")
    origins = Counter(row.origin if row.family != "augmented" else "augmented" for row in rows)
    figures = {
        "images": len(rows),
        "real_images": origins["real"],
        "augmented_images": origins["augmented"],
        "rendered_images": origins["rendered"],
        "scene_families": len({row.family for row in rows if row.origin == "rendered"}),
        "real_near_duplicates": len(bases) - len({base.group for base in bases}),
        "real_label_conflicts": len(conflicts),
    }
    write_json(METRICS / "synthesize.json", figures)


if __name__ == "__main__":
    run_stage(main, __doc__)
