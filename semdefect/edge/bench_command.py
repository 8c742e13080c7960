"""``semdefect bench``: the speed of model files on this machine."""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from semdefect.edge.options import DEFAULT_MODEL, add_runtime, whole
from semdefect.edge.session import MAX_THREADS


def add_bench(commands: Any) -> None:
    """Add ``bench`` to the command line."""
    command = commands.add_parser(
        "bench",
        help="measure the speed of model files on this machine",
        description="Print how long decode, resize, network and whole call take (p50, p95, p99 and median CPU time in\n"
        "ms a call), images a second, and cold start and memory of a fresh process, for each model file.\n"
        "Times mean little on a busy machine; the ratios of --against-plain, from calls that take turns, mean more.",
        epilog="examples:\n"
        "  semdefect bench\n"
        "  semdefect bench models/edge/student_fp32.onnx models/edge/student_int8.onnx --against-plain\n"
        "  semdefect bench --threads 1 2 --batch 1 8 --image wafer.png --json > speed.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "models", nargs="*", type=Path, default=[DEFAULT_MODEL], metavar="MODEL", help=f"default: {DEFAULT_MODEL}"
    )
    what = "images to measure with (default: made for it, PNG of 128 x 128 and 1024 x 1024)"
    command.add_argument("--image", nargs="+", type=Path, default=[], metavar="FILE", help=what)
    command.add_argument(
        "--threads",
        nargs="+",
        type=whole(1, MAX_THREADS),
        default=[1],
        metavar="N",
        help="CPU threads for the network, each measured (default: 1)",
    )
    command.add_argument(
        "--batch", nargs="+", type=whole(1, 256), default=[1], metavar="N", help="images a call (default: 1)"
    )
    command.add_argument(
        "--rounds", type=whole(1, 10_000), default=30, metavar="N", help="turns of each call (default: %(default)s)"
    )
    what = "beside it Pillow's and ONNX Runtime's defaults, and ONNX Runtime's on the same threads, with ratios"
    command.add_argument("--against-plain", action="store_true", help=what)
    add_runtime(command)
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    """Measure and print, one setting after the other."""
    from semdefect.edge import bench, bench_images, bench_table  # no other command needs them

    with tempfile.TemporaryDirectory() as scratch:
        settings = bench.Bench(
            models=options.models,
            images=options.image or bench_images.write_images(Path(scratch)),
            threads=options.threads,
            batches=options.batch,
            rounds=options.rounds,
            against_plain=options.against_plain,
            runtime=options.runtime,
        )
        calls = []
        for figures in settings.calls():
            calls.append(figures)
            if not options.json:
                print(bench_table.setting_text(figures), end="\n\n", flush=True)
        processes = list(settings.processes())
    if options.json:
        about = {"rounds": options.rounds, "runtime": options.runtime}
        print(json.dumps({**about, "calls": calls, "processes": processes}, sort_keys=True))
    else:
        print(bench_table.process_text(processes))
    return 0
