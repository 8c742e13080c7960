"""A fresh process that answers once and says what that took: run by `semdefect.edge.bench_process` as a script.

    python bench_child.py ours|plain MODEL IMAGE THREADS RUNTIME

Prints one JSON object: milliseconds from here to the end of imports, of loading, and of the first answer, and memory.
"""

import time

_BEGIN = time.perf_counter()


def main() -> None:
    """Import, load, answer, report."""
    import json  # not before the clock runs
    import sys

    recipe, model, image, threads, runtime = sys.argv[1:]
    times = _ours(model, image, int(threads), runtime) if recipe == "ours" else _plain(model, image)
    imported, loaded, answered = (1000 * (moment - _BEGIN) for moment in times)
    memory = {"resident_mb": _megabytes("VmRSS"), "peak_mb": _megabytes("VmHWM")}
    print(json.dumps({"import_ms": imported, "load_ms": loaded - imported, "cold_start_ms": answered, **memory}))


def _ours(model: str, image: str, threads: int, runtime: str) -> tuple[float, float, float]:
    import importlib

    from semdefect.edge import EdgeClassifier

    importlib.import_module(runtime)
    imported = time.perf_counter()
    classifier = EdgeClassifier(model, threads, runtime)
    loaded = time.perf_counter()
    classifier.classify(image)
    return imported, loaded, time.perf_counter()


def _plain(model: str, image: str) -> tuple[float, float, float]:
    import numpy as np
    import onnxruntime
    from PIL import Image

    imported = time.perf_counter()
    session = onnxruntime.InferenceSession(model)
    loaded = time.perf_counter()
    pixels = np.asarray(Image.open(image).convert("L").resize((224, 224)), dtype=np.float32)
    session.run(None, {"input": pixels[np.newaxis, np.newaxis] / 255})
    return imported, loaded, time.perf_counter()


def _megabytes(key: str) -> float | None:
    """A figure of this process's memory in MB (10^6 bytes); None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="utf-8") as status:  # noqa: PTH123, pathlib is an import more
            return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith(f"{key}:"))
    except (OSError, StopIteration):
        return None


if __name__ == "__main__":
    main()
