"""How long it takes to say who detects whom, and what one more cohort costs.

    python benchmarks/evaluation.py [--json FILE]

Three measurements, with ratios to something timed in the same run: one pair of generator and
classifier against a single sort of its logits and against scikit-learn's calls; a whole matrix of
pairs against as many single pairs; and the stage `detections` on random images and untrained
classifiers against bare forward passes, then again after a cohort has joined. No study is needed
and none is touched. A machine may be busy with something else: CPU seconds and their ratios then
say more than seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sklearn import metrics

from knowledge_gaps.evaluation.detection import Scores, measure_detection, score_images
from knowledge_gaps.models.frozen import load_classifier
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.core.files import write_json
from knowledge_gaps.core.layout import get_instance_directory
from knowledge_gaps.execution.parallel import map_parallel
from knowledge_gaps.stages import detections
from knowledge_gaps.study import Study
from measuring.usage import Usage, time_fastest
from studies.random_study import SHAPE, write_reals, write_study

BATCH_SIZE = 250


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        images: generated images of each generator.
        reals: reals that every classifier scores.
        matrix: generators, and classifiers, of the matrix of random logits.
        study: generators, and classifiers, of the study.
    """

    images: int
    reals: int
    matrix: int
    study: int


@dataclass(frozen=True)
class Measurement:
    """One row of the table; `limit` is what the value should stay below, if anything."""

    name: str
    value: float
    unit: str
    limit: float | None = None


def draw_scores(seed: tuple[int, ...], num_images: int, mean: float) -> Scores:
    """Draw logits."""
    rng = np.random.default_rng(seed)
    return rng.normal(mean, 2, num_images).astype(np.float32)


# ----------------------------------------------------------------------------------------- one pair


def measure_pair(sizes: Sizes) -> list[Measurement]:
    """Time all statistics of one pair."""
    generated, real = draw_scores((0,), sizes.images, -1), draw_scores((1,), sizes.reals, 1)
    scores = np.concatenate([generated, real])
    pair_sec = time_pair(sizes)
    sort_sec = time_fastest(lambda: np.argsort(scores, kind="stable"))
    calls_sec = time_fastest(lambda: call_scikit_learn(generated, real))
    return [
        Measurement("one pair: all statistics", pair_sec * 1e3, "ms", 10),
        Measurement("one pair / one sort of its logits", pair_sec / sort_sec, "x"),
        Measurement("one pair / scikit-learn's calls for 3 of them", pair_sec / calls_sec, "x"),
    ]


def time_pair(sizes: Sizes) -> float:
    """Return the CPU seconds of one pair."""
    generated, real = draw_scores((0,), sizes.images, -1), draw_scores((1,), sizes.reals, 1)
    return time_fastest(lambda: measure_detection(generated, real))


def call_scikit_learn(generated: Scores, real: Scores) -> tuple[float, float, object]:
    """Compute AUC, average precision and ROC curve by the function that each has."""
    labels = np.repeat([1, 0], [len(generated), len(real)])
    weights = np.where(labels == 1, 1 / len(generated), 1 / len(real))
    found = -np.concatenate([generated, real])
    return (
        metrics.roc_auc_score(labels, found),
        metrics.average_precision_score(labels, found, sample_weight=weights),
        metrics.roc_curve(labels, found, drop_intermediate=False),
    )


# ----------------------------------------------------------------------------------------- a matrix


@dataclass(frozen=True)
class MatrixJob:
    """All generators for one classifier."""

    classifier: int
    sizes: Sizes


def measure_matrix(sizes: Sizes) -> list[Measurement]:
    """Time the statistics of a matrix of pairs on all cores, as the stage spreads them."""
    jobs = [MatrixJob(classifier, sizes) for classifier in range(sizes.matrix)]
    with Usage() as usage:
        rows = list(map_parallel(measure_column, jobs, detections.__name__))
    num_pairs = sum(len(row) for row in rows)
    assert num_pairs == sizes.matrix**2
    pair_sec = time_pair(sizes)
    name = f"matrix {sizes.matrix} x {sizes.matrix}"
    return [
        Measurement(
            f"{name}: on {count_workers(len(jobs), use_gpus=False)} workers",
            usage.wall_sec,
            "s",
            60,
        ),
        Measurement(f"{name}: CPU, starts of workers included", usage.cpu_sec, "s"),
        Measurement(
            f"{name}: CPU / its pairs one by one", usage.cpu_sec / (pair_sec * num_pairs), "x"
        ),
        Measurement(f"{name}: peak memory of all processes", usage.peak_bytes / 2**30, "GiB", 2),
    ]


def measure_column(job: MatrixJob) -> list[dict[str, float]]:
    """Measure one classifier on every generator; run by a worker."""
    real = draw_scores((0, job.classifier), job.sizes.reals, 1)
    return [
        measure_detection(draw_scores((1, job.classifier, number), job.sizes.images, -1), real)
        for number in range(job.sizes.matrix)
    ]


# ------------------------------------------------------------------------------------------ a study


def measure_study(sizes: Sizes) -> list[Measurement]:
    """Time the stage on a study, then after a GAN cohort has joined, then a classifier cohort."""
    many = sizes.study
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_reals(root, sizes.reals)
        studies = [
            write_study(root, {"gans": many}, {"classifiers": many}, sizes.images),
            write_study(root, {"gans": many, "joined": 1}, {"classifiers": many}, sizes.images),
            write_study(
                root, {"gans": many, "joined": 1}, {"classifiers": many, "new": 1}, sizes.images
            ),
        ]
        image_sec = time_forward(root)
        first, gan, classifier = (run_stage(root, study) for study in studies)
    ideal_sec = first.num_pairs * sizes.images * image_sec
    name = f"study {many} x {many}"
    return [
        *list_run(name, first, None),
        Measurement(f"{name}: CPU / bare forward passes", first.cpu_sec / ideal_sec, "x"),
        *list_run("one GAN joins", gan, first),
        *list_run("one classifier joins", classifier, first),
    ]


@dataclass(frozen=True)
class Run:
    """What one run of the stage took, and the pairs that it says it scored."""

    num_pairs: int
    wall_sec: float
    cpu_sec: float


def run_stage(root: Path, study: Study) -> Run:
    """Run the stage as the command line does."""
    said = io.StringIO()
    with Usage() as usage, contextlib.redirect_stdout(said):
        detections.run(root, study)
    [num_scored] = re.findall(r"^scored (\d+) pairs", said.getvalue(), re.MULTILINE)
    return Run(int(num_scored), usage.wall_sec, usage.cpu_sec)


def list_run(name: str, run: Run, first: Run | None) -> Iterator[Measurement]:
    """List a run's numbers, and what part of the first run's they are."""
    yield Measurement(f"{name}: newly scored", run.num_pairs, "pairs")
    yield Measurement(f"{name}: time", run.wall_sec, "s")
    yield Measurement(f"{name}: CPU", run.cpu_sec, "s")
    if first is not None:
        yield Measurement(f"{name}: pairs / first run", run.num_pairs / first.num_pairs, "x")
        yield Measurement(f"{name}: time / first run", run.wall_sec / first.wall_sec, "x")
        yield Measurement(f"{name}: CPU / first run", run.cpu_sec / first.cpu_sec, "x")


def time_forward(root: Path) -> float:
    """Return the CPU seconds that a classifier takes for an image of a batch."""
    classifier = load_classifier(get_instance_directory(root, "classifiers/classifiers", 0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, *SHAPE), dtype=np.uint8)
    return time_fastest(lambda: score_images(classifier, images, BATCH_SIZE)) / len(images)


# ------------------------------------------------------------------------------------ command line

PARTS = {"pair": measure_pair, "matrix": measure_matrix, "study": measure_study}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, print a table; return 1 when a limit is passed."""
    parser = argparse.ArgumentParser(description="Time the detection statistics.")
    parser.add_argument("--only", choices=sorted(PARTS), help="measure one part")
    parser.add_argument("--images", type=int, default=4000, help="generated images a generator")
    parser.add_argument("--reals", type=int, default=10000, help="reals")
    parser.add_argument("--matrix", type=int, default=40, help="side of the matrix of logits")
    parser.add_argument("--study", type=int, default=20, help="generators, and classifiers")
    parser.add_argument("--json", type=Path, help="file to write the numbers to")
    options = parser.parse_args(arguments)
    sizes = Sizes(options.images, options.reals, options.matrix, options.study)
    configure_process()
    found: list[Measurement] = []
    for name in PARTS if options.only is None else [options.only]:
        part = PARTS[name](sizes)
        print_rows(part)
        found += part
    if options.json is not None:
        rows = [asdict(measurement) for measurement in found]
        write_json(options.json, {"sizes": asdict(sizes), "measurements": rows})
    return int(any(row.limit is not None and row.value > row.limit for row in found))


def print_rows(rows: Iterable[Measurement]) -> None:
    """Print measurements as rows of one table."""
    for row in rows:
        limit = "" if row.limit is None else f"  (at most {row.limit:g})"
        print(f"{row.name:<52}{row.value:>10.3f} {row.unit}{limit}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
