"""How cost grows: with instances, with iterations, with evaluation images; time and memory of each.

Every size is told by its ratio to the smallest one of the same turn; lines are fitted to the
medians. Every number for memory has a process of its own, in which nothing ran before. The work is
done by the processes of `children`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knowledge_gaps.core.devices import count_workers
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.study import Kind
from measuring.pairs import LEAST_SIZES, Spread, compare, fit_line, fit_power
from measuring.processes import run_script
from measuring.results import Effort, Figure, Growth, Row
from studies.short_study import GANS, make_cohorts_root

_MIB = 2**20


_MOST_TURNS = 3  # fewer than other figures have: sizes take long, and lie far apart


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
    iterations: int = 4
    iteration_steps: int = 20
    detection_images: Sequence[int] = (1000, 5000, 20000, 50000)
    quality_images: Sequence[int] = (1000, 2000, 5000)


_QUICK = Sizes((1, 2, 3), 2, 3, 2, (20, 30, 40), (20, 30, 40))


@dataclass(frozen=True)
class Per:
    """What one more is, on a fitted line.

    Attributes:
        name: with its article or number.
        sizes: that it counts as.
    """

    name: str
    sizes: int = 1


@dataclass(frozen=True)
class Curve:
    """One cost over sizes.

    Attributes:
        name: of what is done, for people.
        label: puts a size into words.
        per: of its lines' slopes.
        is_power: time is about a power of the size; otherwise a constant and a share of the size.
        seconds: by size, one a turn.
        peak_bytes: by size, of all processes together, each measured once.
    """

    name: str
    label: Callable[[int], str]
    per: Per
    is_power: bool
    seconds: Mapping[int, Sequence[float]]
    peak_bytes: Mapping[int, float]

    def list_rows(self) -> Iterator[Row]:
        """List every size's ratio to the smallest."""
        smallest = min(self.seconds)
        for size, values in self.seconds.items():
            memory = f"{self.peak_bytes[size] / _MIB:,.0f} MiB at the peak"
            name = f"{self.name}: {self.label(size)}"
            if size != smallest:
                name += f" / {self.label(smallest)}"
            yield Row(name, compare(values, self.seconds[smallest]), note=memory)

    def select_sizes(self, least: int) -> list[int]:
        """Return the sizes from a size on, if they are enough for a line, and otherwise all."""
        sizes = [size for size in self.seconds if size >= least]
        return sizes if len(sizes) >= LEAST_SIZES else list(self.seconds)

    def list_growths(self, least: int = 0) -> Iterator[Growth]:
        """Fit time and memory from a size on."""
        sizes = self.select_sizes(least)
        over = f"{self.label(sizes[0])} to {self.label(sizes[-1])}"
        medians = [Spread(tuple(self.seconds[size])).median for size in sizes]
        peaks = [self.peak_bytes[size] / _MIB for size in sizes]
        places = [size / self.per.sizes for size in sizes]
        time = f"{self.name}, time, {over}"
        if self.is_power:
            yield Growth(time, fit_power(sizes, medians))
        else:
            shares = [median / medians[0] for median in medians]
            unit = f"of the time of {self.label(sizes[0])}, {self.per.name}"
            yield Growth(time, fit_line(places, shares), unit)
        unit = f"MiB, {self.per.name}"
        yield Growth(f"{self.name}, memory, {over}", fit_line(places, peaks), unit)


def measure_growth(effort: Effort) -> Figure:
    """Measure all three."""
    sizes = _QUICK if effort.is_quick else Sizes()
    num_turns = min(effort.num_turns, _MOST_TURNS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_cohorts_root(
            root / "study", sizes.instance_steps, max(sizes.instances), with_classifiers=False
        )
        instances = measure_instances(root / "study", sizes, num_turns)
        iterations = measure_iterations(root / "study", sizes, num_turns)
        evaluated = [
            measure_images(root, stage, images, num_turns)
            for stage, images in (
                ("detections", sizes.detection_images),
                ("quality", sizes.quality_images),
            )
        ]
    num_cores = count_workers(max(sizes.instances))
    curves = [instances, iterations, *evaluated]
    return Figure(
        "growth",
        "How cost grows",
        f"{num_turns} turns of a cohort of DCGANs ({sizes.instance_steps} steps each; "
        f"{describe_start(instances, num_cores)}); of the iterations of a fool-all chain, each "
        f"with its GANs, classifiers ({sizes.iteration_steps} steps each), images and new pairs; "
        "of detections and quality of one generator and one classifier with as many reals as "
        f"images (quality of at most {max(sizes.quality_images):,}, for it compares every image "
        "with every other). Sizes, steps and turns are cut so that it takes minutes. "
        "Imports are made before the clock starts. Memory is the sum of all processes, shared "
        "pages once, measured once in a process of its own. An exponent is of a power law, other "
        "slopes are of a straight line with an intercept.",
        [row for curve in curves for row in curve.list_rows()],
        [
            *instances.list_growths(num_cores),
            *(growth for curve in curves[1:] for growth in curve.list_growths()),
        ],
        {curve.name: _dump(curve) for curve in curves},
    )


def describe_start(instances: Curve, num_cores: int) -> str:
    """Say from which size on a cohort's lines are fitted, and why."""
    first = instances.select_sizes(num_cores)[0]
    if first >= num_cores:
        return f"{num_cores} keep all cores busy, so the lines begin at {first}"
    return (
        f"{num_cores} keep all cores busy, but fewer than {LEAST_SIZES} sizes are as large, so the "
        f"lines begin at {first}, where cores are idle"
    )


def measure_instances(root: Path, sizes: Sizes, num_turns: int) -> Curve:
    """Train cohorts of several sizes."""
    train = partial(run_script, "children/cohort.py", root, Kind.GANS.value, GANS, "--sizes")
    answer = train(*sizes.instances, "--turns", num_turns)
    return Curve(
        "a cohort",
        lambda size: count_words(size, "instance"),
        Per("an instance"),
        True,
        {each["size"]: each["seconds"] for each in answer.content["trained"]},
        {size: train(size, "--memory").content["peak_bytes"] for size in sizes.instances},
    )


def measure_iterations(root: Path, sizes: Sizes, num_turns: int) -> Curve:
    """Run a chain of iterations; the baseline's is not among the sizes."""
    script = partial(run_script, "children/iterations.py", root, "--steps", sizes.iteration_steps)
    answer = script("--iterations", sizes.iterations, "--turns", num_turns)
    peaks = [
        script("--memory-of", number).content["peak_bytes"]
        for number in range(sizes.iterations + 1)
    ]
    numbers = range(1, sizes.iterations + 1)
    return Curve(
        "a fool-all iteration",
        "{} in the loss".format,
        Per("an iteration"),
        False,
        {number: [turn[number] for turn in answer.content["seconds"]] for number in numbers},
        {number: peaks[number] for number in numbers},
    )


def measure_images(root: Path, stage: str, images: Sequence[int], num_turns: int) -> Curve:
    """Run a stage on one generator and one classifier."""
    options = ("--cohorts", 1, "--stages", stage, "--images")
    evaluate = partial(run_script, "children/evaluation.py", root / stage, *options)
    answer = evaluate(*images, "--turns", num_turns)
    return Curve(
        stage,
        "{:,} images".format,
        Per("1,000 images", 1000),
        True,
        {each["images"]: each["seconds"] for each in answer.content["evaluated"]},
        {number: evaluate(number, "--memory").content["peak_bytes"] for number in images},
    )


def _dump(curve: Curve) -> dict[str, object]:
    return {
        "seconds": {str(size): list(values) for size, values in curve.seconds.items()},
        "peak_bytes": {str(size): value for size, value in curve.peak_bytes.items()},
    }
