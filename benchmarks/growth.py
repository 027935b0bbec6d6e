"""How cost grows: with instances, with iterations, with evaluation images; time and memory of each.

Every size is told by its ratio to the smallest one of the same turn; exponents are fitted to the
medians. The work is done by `cohort_child`, `iterations_child` and `evaluation_child`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from children import run_script
from knowledge_gaps.runtime.devices import count_workers
from knowledge_gaps.study import Kind
from pairs import Spread, compare, fit_slope
from results import Effort, Figure, Growth, Row
from short_study import GANS, make_cohorts_root

_MIB = 2**20


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        instances: of a GAN cohort.
        instance_steps: of each of them.
        iterations: after the baseline's.
        iteration_steps: of every training of an iteration.
        detection_images: of a generator, and reals.
        quality_images: likewise; fewer, for it compares every image with every other.
    """

    instances: Sequence[int] = (1, 2, 4, 8, 16, 32)
    instance_steps: int = 30
    iterations: int = 5
    iteration_steps: int = 30
    detection_images: Sequence[int] = (1000, 2000, 5000, 10000, 20000, 50000)
    quality_images: Sequence[int] = (1000, 2000, 5000, 10000)


_QUICK = Sizes((1, 2, 3), 2, 3, 2, (20, 30, 40), (20, 30, 40))


@dataclass(frozen=True)
class Curve:
    """One cost over sizes.

    Attributes:
        name: of what is done, for people.
        label: of a size, with {} for the number.
        seconds: by size, one a turn.
        peak_bytes: by size, of all processes together; of one turn.
    """

    name: str
    label: str
    seconds: Mapping[int, Sequence[float]]
    peak_bytes: Mapping[int, float]

    def list_rows(self) -> Iterator[Row]:
        """List every size's ratio to the smallest."""
        smallest = min(self.seconds)
        for size, values in self.seconds.items():
            memory = f"{self.peak_bytes[size] / _MIB:,.0f} MiB at the peak"
            name = f"{self.name}: {self.label.format(size)} / {self.label.format(smallest)}"
            yield Row(name, compare(values, self.seconds[smallest]), note=memory)

    def list_growths(self, least: int = 0) -> Iterator[Growth]:
        """Fit time and memory from a size on."""
        sizes = [size for size in self.seconds if size >= least]
        if len(sizes) < 3:
            sizes = list(self.seconds)
        medians = [Spread(tuple(self.seconds[size])).median for size in sizes]
        peaks = [self.peak_bytes[size] for size in sizes]
        over = f"{self.label.format(sizes[0])} to {self.label.format(sizes[-1])}"
        yield Growth(f"{self.name}, time, {over}", fit_slope(sizes, medians))
        yield Growth(f"{self.name}, memory, {over}", fit_slope(sizes, peaks))


def measure_growth(effort: Effort) -> Figure:
    """Measure all three."""
    sizes = _QUICK if effort.is_quick else Sizes()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(
            root / "study", sizes.instance_steps, max(sizes.instances), with_classifiers=False
        )
        instances = measure_instances(root / "study", sizes, effort.num_turns)
        iterations = measure_iterations(root / "study", sizes, effort.num_turns)
        evaluated = [
            measure_images(root, stage, images, effort.num_turns)
            for stage, images in (
                ("detections", sizes.detection_images),
                ("quality", sizes.quality_images),
            )
        ]
    least = min(count_workers(max(sizes.instances)), max(sizes.instances))
    curves = [instances, iterations, *evaluated]
    return Figure(
        "growth",
        "How cost grows",
        f"A cohort of DCGANs ({sizes.instance_steps} steps each; below {least} instances a core is "
        "idle, so the exponent begins there); the iterations of a fool-all chain, each with its "
        f"GANs, classifiers ({sizes.iteration_steps} steps each), images and new pairs; detections "
        "and quality of one generator and one classifier with as many reals as images (quality of "
        f"at most {max(sizes.quality_images):,}, for it compares every image with every other). "
        "Imports are made before the clock starts. Memory is the sum of all processes, shared "
        "pages once.",
        [row for curve in curves for row in curve.list_rows()],
        [
            *instances.list_growths(least),
            *(growth for curve in curves[1:] for growth in curve.list_growths()),
        ],
        {curve.name: _dump(curve) for curve in curves},
    )


def measure_instances(root: Path, sizes: Sizes, num_turns: int) -> Curve:
    """Train cohorts of several sizes."""
    options = ("--sizes", *sizes.instances, "--turns", num_turns, "--memory")
    answer = run_script("cohort_child.py", root, Kind.GANS.value, GANS, *options)
    found = answer.content["trained"]
    return Curve(
        "a cohort",
        "{} instances",
        {each["size"]: each["seconds"] for each in found},
        {each["size"]: each["peak_bytes"] for each in found},
    )


def measure_iterations(root: Path, sizes: Sizes, num_turns: int) -> Curve:
    """Run a chain of iterations; the baseline's is not among the sizes."""
    steps = ("--iterations", sizes.iterations, "--steps", sizes.iteration_steps)
    answer = run_script("iterations_child.py", root, *steps, "--turns", num_turns)
    numbers = range(1, sizes.iterations + 1)
    return Curve(
        "a fool-all iteration",
        "{} in the loss",
        {number: [turn[number] for turn in answer.content["seconds"]] for number in numbers},
        {number: answer.content["peak_bytes"][number] for number in numbers},
    )


def measure_images(root: Path, stage: str, images: Sequence[int], num_turns: int) -> Curve:
    """Run a stage on one generator and one classifier."""
    options = ("--images", *images, "--turns", num_turns, "--memory")
    answer = run_script(
        "evaluation_child.py", root / stage, "--cohorts", 1, "--stages", stage, *options
    )
    found = answer.content["evaluated"]
    return Curve(
        stage,
        "{:,} images",
        {each["images"]: each["seconds"] for each in found},
        {each["images"]: each["peak_bytes"] for each in found},
    )


def _dump(curve: Curve) -> dict[str, object]:
    return {
        "seconds": {str(size): list(values) for size, values in curve.seconds.items()},
        "peak_bytes": {str(size): value for size, value in curve.peak_bytes.items()},
    }
