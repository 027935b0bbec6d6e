"""From what is measured to what each stage costs: time, memory, disk."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.devices import (
    count_cores,
    count_gpus,
    count_processes,
    count_workers,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.data.drawn_samples import DrawnSamples
from knowledge_gaps.planning.inventory import CohortWork, Reals
from knowledge_gaps.planning.measure import Counts
from knowledge_gaps.planning.memory import find_free_bytes
from knowledge_gaps.planning.request import Measurement
from knowledge_gaps.planning.standing import Changes, Standing
from knowledge_gaps.study import ClassifierRecipe, Kind, Study

_NETWORKS = ("G", "D", "C")
_FLOAT_BYTES = 4
_ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Row:
    """One stage's costs; None where a thing is not known or does not apply.

    Attributes:
        stage: as in dvc.yaml.
        trainings: how many there are.
        trainings_left: how many are not finished.
        steps: of one training; at most so many where it may stop early.
        images_shown: reals that all trainings draw together.
        parameters: by network.
        batch_size: of the recipe.
        memory_bytes: of one training at that batch size.
        seconds_per_step: at that batch size.
        seconds_left: of all that is left, on this machine.
        seconds: of the whole stage, on this machine.
        disk_bytes: of the stage's results.
        resume_bytes: of the states of all its trainings, while it runs.
        notes: what a reader has to know of these numbers.
    """

    stage: str
    trainings: int | None = None
    trainings_left: int | None = None
    steps: int | None = None
    images_shown: int | None = None
    parameters: Mapping[str, int] | None = None
    batch_size: int | None = None
    memory_bytes: int | None = None
    seconds_per_step: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    disk_bytes: int | None = None
    resume_bytes: int | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Knowledge:
    """All that rows are made of, by kind/COHORT where it differs by cohort.

    Attributes:
        root: the repository's root.
        study: the present one.
        cohorts: each after those that it stands on.
        reals: their size.
        changes: what DVC says; None where it could not say.
        standings: what is left.
        counts: sizes of the networks.
        measurements: of the probes, or why there is none; empty without probes.
    """

    root: Path
    study: Study
    cohorts: Sequence[CohortWork]
    reals: Reals
    changes: Changes | None
    standings: Mapping[str, Standing]
    counts: Mapping[str, Counts]
    measurements: Mapping[str, Measurement | str]


def make_rows(known: Knowledge) -> list[Row]:
    """Make the rows of a plan: the data, every cohort in its order, sampling, detection."""
    cohorts = [make_cohort_row(known, work) for work in known.cohorts]
    prepared = Row("prepare", disk_bytes=known.reals.stored_bytes)
    return [prepared, *cohorts, _make_samples_row(known), _make_detections_row(known)]


def make_cohort_row(known: Knowledge, work: CohortWork) -> Row:
    """Make the row of a cohort's training."""
    recipe, instances = work.recipe, work.cohort.instances
    standing, counts = known.standings[work.path], known.counts[work.path]
    measured = known.measurements.get(work.path)
    notes = [standing.note] if standing.note else []
    if isinstance(recipe, ClassifierRecipe) and recipe.early_stopping is not None:
        notes.append("may stop early")
    memory = seconds_per_step = seconds_left = seconds = None
    if isinstance(measured, str):
        notes.append(measured)
    elif measured is not None:
        memory = measured.compute_memory(recipe.batch_size)
        seconds_per_step = measured.compute_seconds(recipe.batch_size)
        seconds_left = compute_makespan(standing.steps_left) * seconds_per_step
        seconds = compute_makespan((recipe.steps,) * instances) * seconds_per_step
        notes += describe_fit(measured, recipe.batch_size, instances)
    return Row(
        stage=f"{work.kind}@{work.name}",
        trainings=instances,
        trainings_left=len(standing.steps_left),
        steps=recipe.steps,
        images_shown=work.images_shown * instances,
        parameters={name: counts[name]["parameters"] for name in _NETWORKS if name in counts},
        batch_size=recipe.batch_size,
        memory_bytes=memory,
        seconds_per_step=seconds_per_step,
        seconds_left=seconds_left,
        seconds=seconds,
        disk_bytes=sum(count["stored_bytes"] for count in counts.values()) * instances,
        resume_bytes=_count_resume_bytes(work, counts) * instances,
        notes=tuple(notes),
    )


def compute_makespan(steps: Sequence[int]) -> float:
    """Steps until the last of some trainings has ended, as many as one process makes alone.

    Trainings are handed out one by one, in order, to a worker each; or several processes make each
    together, on a share of the batch each.

    Args:
        steps: of every training.
    """
    if not steps:
        return 0
    num_together = count_processes(None)
    if num_together > 1:
        return sum(steps) / min(num_together, count_gpus() or count_cores())
    busy_until = [0] * count_workers(len(steps))
    for num_steps in steps:
        heapq.heapreplace(busy_until, busy_until[0] + num_steps)
    return max(busy_until)


def describe_fit(measured: Measurement, batch_size: int, num_trainings: int) -> list[str]:
    """Say where a measurement is extrapolated, and what fits where the batch does not."""
    notes = []
    if measured.batch_size < batch_size:
        notes.append(f"extrapolated from batch {measured.batch_size}")
    uses_gpu = count_gpus() > 0
    limit = measured.limit_bytes if uses_gpu else find_free_bytes()
    if limit is None:
        return notes
    num_beside = 1 if uses_gpu else count_workers(num_trainings)
    needed = measured.compute_memory(batch_size)
    if needed > limit:
        fitting = measured.find_fitting_batch(limit)
        notes.append(f"batch {batch_size} does not fit into the memory, {fitting} would")
    elif needed * num_beside > limit:
        notes.append(f"{num_beside} side by side do not fit: KGAPS_WORKERS={limit // needed}")
    return notes


def _count_resume_bytes(work: CohortWork, counts: Counts) -> int:
    """Bytes of one training's resume state: networks, the average, Adam's moments."""
    stored = [count["stored_bytes"] for count in counts.values()]
    moments = sum(count["parameters"] for count in counts.values()) * _ADAM_MOMENTS * _FLOAT_BYTES
    averaged = counts.get("G", counts.get("C")) if work.recipe.ema_decay is not None else None
    return sum(stored) + moments + (0 if averaged is None else averaged["stored_bytes"])


def _make_samples_row(known: Knowledge) -> Row:
    """Sample every generator: one process a core, or one on a GPU."""
    num_images = known.study.evaluation.num_images
    seconds_left = seconds = 0.0
    is_measured = True
    num_generators = num_lacking = 0
    drawn = DrawnSamples(known.root, known.study)
    for work in known.cohorts:
        if work.kind is not Kind.GANS:
            continue
        lacking = _count_lacking_samples(known, drawn, work)
        num_generators += work.cohort.instances
        num_lacking += lacking
        measured = known.measurements.get(work.path)
        if not isinstance(measured, Measurement):
            is_measured = False
            continue
        seconds += work.cohort.instances * num_images * measured.seconds_per_image
        seconds_left += lacking * num_images * measured.seconds_per_image
    return Row(
        "samples",
        seconds_left=seconds_left / _count_side_by_side(num_lacking) if is_measured else None,
        seconds=seconds / _count_side_by_side(num_generators) if is_measured else None,
        disk_bytes=num_generators * num_images * known.reals.image_bytes,
    )


def _count_lacking_samples(known: Knowledge, drawn: DrawnSamples, work: CohortWork) -> int:
    """Count the generators of a cohort whose images are not there, or would be others now.

    Whether a file of images was altered since is not looked at, for they may be large.
    """
    if known.standings[work.path].steps_left:
        return work.cohort.instances
    if known.changes is not None and "samples" not in known.changes:
        return 0
    return sum(
        not _is_sampled(drawn, work.name, instance) for instance in range(work.cohort.instances)
    )


def _is_sampled(drawn: DrawnSamples, name: str, instance: int) -> bool:
    try:
        return drawn.has_file(name, instance)
    except UserError:  # in DVC's cache: what it would draw is known once it is back
        return False


def _count_side_by_side(num_items: int) -> int:
    """Count the processes that evaluate so many items, at least 1."""
    return 1 if count_gpus() > 0 else max(1, count_workers(num_items, use_gpus=False))


def _make_detections_row(known: Knowledge) -> Row:
    """Let every classifier score every generator: one process a core, or one on a GPU."""
    study = known.study
    num_generators = sum(gans.instances for gans in study.gans.values())
    num_images = num_generators * study.evaluation.num_images + (known.reals.num_test or 0)
    seconds: float | None = 0.0
    num_classifiers = 0
    for work in known.cohorts:
        if work.kind is not Kind.CLASSIFIERS:
            continue
        num_classifiers += work.cohort.instances
        measured = known.measurements.get(work.path)
        if not isinstance(measured, Measurement) or seconds is None:
            seconds = None
            continue
        seconds += work.cohort.instances * num_images * measured.seconds_per_image
    if seconds is not None:
        seconds /= _count_side_by_side(num_classifiers)
    is_done = known.changes is not None and "detections" not in known.changes
    is_done = is_done and not any(standing.steps_left for standing in known.standings.values())
    notes = () if is_done else ("pairs that were scored before cost nothing",)
    return Row(
        "detections",
        seconds_left=0.0 if is_done and seconds is not None else seconds,
        seconds=seconds,
        notes=notes,
    )
