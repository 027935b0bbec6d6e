"""The plan: for each cohort what is trained, what is left and what that takes on this machine."""

from __future__ import annotations

import heapq
import resource
import sys
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal
from rich.table import Table

from knowledge_gaps.core.devices import count_gpus, count_workers
from knowledge_gaps.core.printing import draw_table, make_table
from knowledge_gaps.models.networks import build_on_meta, count_parameters, count_stored_bytes
from knowledge_gaps.planning.inventory import CohortWork, ImageShape, find_reals, list_cohorts
from knowledge_gaps.planning.timing import time_training
from knowledge_gaps.study import Study

# of a recipe, what decides no step's time
_NO_COST = {"steps", "log_every", "early_stopping", "initialisation", "initial_weights"}


def make_plan(root: Path, study: Study, with_timing: bool) -> dict[str, Any]:
    """Make the plan of a study.

    Args:
        root: the repository's root.
        study: the present one.
        with_timing: time some steps of every distinct training in this process.

    Returns:
        What JSON can hold, with None for what is not known: "cohorts" in the order of training,
        "hours_left" of all trainings, "disk_bytes", and "peak_bytes", the memory of this process.

    Raises:
        UserError: when the images' size is not known, or a recipe does not fit them.
    """
    cohorts, (shape, num_reals) = list_cohorts(root, study), find_reals(root, study)
    rows = [_make_row(work, shape) for work in cohorts]
    times = _time_cohorts(cohorts, shape) if with_timing else [""] * len(cohorts)
    for row, work, found in zip(rows, cohorts, times, strict=True):
        seconds, note = (None, found) if isinstance(found, str) else (found, "")
        left = estimate_seconds(work.steps_left, seconds)
        row |= {"seconds_per_step": seconds, "seconds_left": left, "note": note}
    known = [row["seconds_left"] for row in rows if row["seconds_left"] is not None]
    num_samples = sum(gans.instances for gans in study.gans.values()) * study.evaluation.num_images
    return {
        "study": study.study.name,
        "cohorts": rows,
        "hours_left": sum(known) / 3600 if len(known) == len(rows) else None,
        "disk_bytes": {
            "checkpoints": sum(row["disk_bytes"] for row in rows),
            "samples": num_samples * prod(shape),
            "prepared": None if num_reals is None else num_reals * prod(shape),
        },
        "peak_bytes": _find_peak_bytes() if with_timing else None,
    }


def _make_row(work: CohortWork, shape: ImageShape) -> dict[str, Any]:
    recipe, (kind, _) = work.recipe, work.path.split("/")
    networks = build_on_meta(kind, recipe.architecture, recipe.model, shape)
    images_a_step = recipe.batch_size * recipe.gradient_accumulation_steps
    return {
        "cohort": work.path,
        "architecture": recipe.architecture,
        "parameters": {name: count_parameters(network) for name, network in networks.items()},
        "instances": work.instances,
        "finished": work.instances - len(work.steps_left),
        "steps": recipe.steps,  # of one training, at most where it may stop early
        "images": recipe.steps * images_a_step * work.instances,
        "steps_left": sum(work.steps_left),
        "disk_bytes": sum(map(count_stored_bytes, networks.values())) * work.instances,
    }


def _time_cohorts(cohorts: Sequence[CohortWork], shape: ImageShape) -> list[float | str]:
    """Time every distinct training once; return the seconds of a step, or why there are none."""
    known: dict[str, float | str] = {}
    found = []
    for work in cohorts:
        frozen = [(recipe.architecture, recipe.model) for recipe in work.frozen]
        key = f"{work.recipe.model_dump(exclude=_NO_COST)} {frozen}"
        if key not in known:
            print(f"timing {work.path} ({work.recipe.architecture})", file=sys.stderr, flush=True)
            known[key] = time_training(work.recipe, work.frozen, shape)
        found.append(known[key])
    return found


def estimate_seconds(steps_left: Sequence[int], seconds_per_step: float | None) -> float | None:
    """Estimate when the last training of a cohort ends, if a free worker takes the next one."""
    busy_until = [0] * max(1, count_workers(len(steps_left)))
    for num_steps in steps_left:
        heapq.heapreplace(busy_until, busy_until[0] + num_steps)
    if seconds_per_step is None and steps_left:
        return None
    return max(busy_until) * (seconds_per_step or 0.0)


def _find_peak_bytes() -> int:
    """Return this process's largest memory so far: of tensors on a GPU, else resident."""
    if count_gpus() > 0:
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def draw_plan(plan: dict[str, Any]) -> str:
    """Draw a plan of `make_plan` as two tables, of what is trained and what it takes, and sums."""
    trained = _make_table("finished", "steps", "images", "networks")
    taken = _make_table("steps left", "s/step", "hours left", "checkpoints", "")
    for row in plan["cohorts"]:
        sizes = ", ".join(f"{key} {_format(n)}" for key, n in row["parameters"].items())
        done, networks = f"{row['finished']}/{row['instances']}", f"{row['architecture']}: {sizes}"
        trained.add_row(
            row["cohort"], done, _format(row["steps"]), _format(row["images"]), networks
        )
        seconds, left = row["seconds_per_step"], row["seconds_left"]
        taken.add_row(
            row["cohort"],
            _format(row["steps_left"]),
            "" if seconds is None else f"{seconds:.3g}",
            "" if left is None else f"{left / 3600:,.2f}",
            decimal(row["disk_bytes"]),
            row["note"],
        )
    hours, peak = plan["hours_left"], plan["peak_bytes"]
    disk = [(name, size) for name, size in plan["disk_bytes"].items() if size is not None]
    sums = [
        f"hours left: {'not known' if hours is None else f'{hours:,.2f}'}, without evaluation",
        "disk: " + ", ".join(f"{name} {decimal(size)}" for name, size in disk),
        *([] if peak is None else [f"memory of one worker: at most {decimal(peak)}"]),
    ]
    return "\n\n".join([plan["study"], draw_table(trained), draw_table(taken), "\n".join(sums)])


def _make_table(*names: str) -> Table:
    table = make_table()
    table.add_column("cohort", no_wrap=True)
    for name in names[:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(names[-1])
    return table


def _format(count: int) -> str:
    """Write a count: whole up to 99,999, else with three digits."""
    power = 0 if count < 100_000 else min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}" if power else f"{count:,}"
