"""How fast a model file runs here: `semdefect bench` as a library.

Calls that are compared take turns, a few each round, so that whatever else the machine does hits all of them alike.
On a busy machine only ratios of medians from one run mean something, and those of CPU time most: they do not see the
calls that were interrupted.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semdefect.edge.bench_calls import Ours, Plain, Recipe
from semdefect.edge.bench_process import process_figures
from semdefect.edge.classifier import EdgeClassifier
from semdefect.edge.image import open_gray

#: In the order in which an image passes them; ``resize`` includes the conversion to float.
STAGES = ("decode", "resize", "network", "whole")

#: A recipe and one of its stages.
Call = tuple[str, str]

#: Timed calls a round, after one that is not: the first call of a turn finds cold caches.
CALLS = 3

#: Fresh processes a recipe, where there are as many rounds.
STARTS = 5

#: Seconds of rest before each turn: idle threads of ONNX Runtime's defaults spin on for a while and slow their heirs.
REST = 0.02


@dataclass(frozen=True)
class Bench:
    """What to measure.

    Attributes:
        models: exported model files.
        images: image files.
        threads: CPU threads for the network, each measured.
        batches: images a call, each measured.
        rounds: turns of each call; ``CALLS`` times a turn.
        against_plain: measure the plain recipe too.
        runtime: one of ``semdefect.edge.runtime.RUNTIMES``, for our own calls.
    """

    models: Sequence[Path]
    images: Sequence[Path]
    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    rounds: int = 30
    against_plain: bool = False
    runtime: str = "onnxruntime"

    def calls(self) -> Iterator[dict[str, Any]]:
        """Time decode, resize, network and whole call of every setting; yields one dictionary a setting.

        Keys: ``model``, ``image``, ``threads``, ``batch``, and ``recipes``: name to the figures of each of ``STAGES``
        (``p50_ms``, ``p95_ms``, ``p99_ms`` of a call, all ``batch`` images of it, and ``cpu_ms``, the median CPU time
        of all threads) and ``images_per_second``. ``ours`` is always there. Against plain also ``plain`` (ONNX Runtime
        on all cores) and ``plain_same_threads``, and for these two ``times_as_fast`` and ``times_the_cpu``: by stage,
        their median over ours.

        Raises:
            UserError: a model or an image cannot be used.
        """
        for path in self.images:
            open_gray(path)  # a bad one is told at once
        classifiers = {
            (model, count): EdgeClassifier(model, count, self.runtime)
            for model in self.models
            for count in self.threads
        }
        for (model, count), classifier in classifiers.items():
            recipes: dict[str, Recipe] = {"ours": Ours(classifier)}
            if self.against_plain:
                recipes |= {"plain": Plain(model), "plain_same_threads": Plain(model, count)}
            for batch in self.batches:
                for image in self.images:
                    setting = {"model": str(model), "image": image.name, "threads": count, "batch": batch}
                    yield setting | _figures(recipes, image, batch, self.rounds)

    def processes(self) -> Iterator[dict[str, Any]]:
        """Cold start and memory of every model and number of threads, on the first image.

        Yields ``model``, ``threads`` and ``recipes``: ``ours`` and, if asked for, ``plain`` to what
        ``semdefect.edge.bench_process.process_figures`` says.

        Raises:
            UserError: a fresh process fails.
        """
        recipes = ("ours", "plain") if self.against_plain else ("ours",)
        starts = min(STARTS, self.rounds)
        for model in self.models:
            for count in self.threads:
                figures = process_figures(model, self.images[0], count, self.runtime, recipes, starts)
                yield {"model": str(model), "threads": count, "recipes": figures}


def _figures(recipes: dict[str, Recipe], image: Path, batch: int, rounds: int) -> dict[str, Any]:
    times = interleaved(
        {(name, stage): call for name, recipe in recipes.items() for stage, call in _stages(recipe, image, batch)},
        rounds,
    )
    figures: dict[str, Any] = {}
    for name in recipes:
        figures[name] = {stage: _percentiles(times[name, stage]) for stage in STAGES}
        figures[name]["images_per_second"] = 1000 * batch / figures[name]["whole"]["p50_ms"]
    if len(recipes) == 1:
        return {"recipes": figures}
    return {
        "recipes": figures,
        "times_as_fast": _ratios(figures, "p50_ms"),
        "times_the_cpu": _ratios(figures, "cpu_ms"),
    }


def _ratios(figures: dict[str, Any], key: str) -> dict[str, dict[str, float]]:
    """Of each recipe but ours, by stage, a figure over ours."""
    return {
        name: {stage: one[stage][key] / figures["ours"][stage][key] for stage in STAGES}
        for name, one in figures.items()
        if name != "ours"
    }


def _stages(recipe: Recipe, image: Path, batch: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """The calls to time, by stage; each works on all images of the batch."""
    gray = recipe.decode(image)
    tensors = np.concatenate([recipe.resize(gray)] * batch)
    yield "decode", lambda: [recipe.decode(image) for _ in range(batch)]
    yield "resize", lambda: [recipe.resize(gray) for _ in range(batch)]
    yield "network", lambda: recipe.network(tensors)
    yield "whole", lambda: recipe.whole([image] * batch)


def interleaved(calls: dict[Call, Callable[[], object]], rounds: int) -> dict[Call, list[tuple[float, float]]]:
    """Milliseconds of wall clock and of CPU for each call, ``rounds * CALLS`` pairs.

    Calls take turns, each round in another order.
    """
    times: dict[Call, list[tuple[float, float]]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            time.sleep(REST)
            calls[name]()
            for _ in range(CALLS):
                begin, cpu = time.perf_counter(), time.process_time()
                calls[name]()
                times[name].append((1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - cpu)))
    return times


def _percentiles(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, cpu = zip(*times, strict=True)
    figures = {f"p{share}_ms": float(np.percentile(wall, share)) for share in (50, 95, 99)}
    return figures | {"cpu_ms": float(np.median(cpu))}
