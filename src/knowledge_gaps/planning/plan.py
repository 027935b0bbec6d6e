"""The plan: for each cohort what is trained, what is left and what that takes on this machine."""

from __future__ import annotations

import heapq
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from rich.filesize import decimal

from knowledge_gaps.core import layout
from knowledge_gaps.core.checkpoint import read_metadata
from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import count_gpus, count_workers
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import dump_json, read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.printing import draw_table, make_table
from knowledge_gaps.models.networks import build_on_meta
from knowledge_gaps.models.registry import ImageShape
from knowledge_gaps.planning.timing import time_training
from knowledge_gaps.study import DataSettings, Study
from knowledge_gaps.study.graph import (
    find_cohort,
    find_recipe,
    list_generators,
    list_instances,
    list_members,
    sort_nodes,
)

# datasets whose image shape is part of their definition
_KNOWN_SHAPES: dict[str, ImageShape] = dict.fromkeys(
    ("mnist", "fashion-mnist", "kmnist"), (1, 28, 28)
)
# of a recipe, what decides no step's time
_NO_COST = {"steps", "log_every", "early_stopping", "initialisation", "initial_weights"}


def run(root: Path, study: Study, with_timing: bool, as_json: bool) -> None:
    """Print the plan, as tables or JSON; raises as `make_plan`."""
    configure_process()
    plan = make_plan(root, study, with_timing)
    print(dump_json(plan) if as_json else draw_plan(plan))


def make_plan(root: Path, study: Study, with_timing: bool) -> dict[str, Any]:
    """Make the plan of a study; `with_timing` times some steps of every distinct training.

    Returns what JSON can hold, with None for what is not known: "cohorts" in the order of training,
    "hours_left" of all trainings, "disk_bytes", and "peak_bytes", the memory of this process.
    Raises UserError when the images' size is not known, or a recipe does not fit them.
    """
    shape = _find_prepared_shape(root, study)
    steps_left = count_steps_left(root, study)
    rows = [_make_row(study, path, steps_left[path], shape) for path in steps_left]
    times = _time_cohorts(study, list(steps_left), shape) if with_timing else {}
    for row, (path, left) in zip(rows, steps_left.items(), strict=True):
        found = times.get(path, "")
        seconds, note = (None, found) if isinstance(found, str) else (found, "")
        row |= {"seconds_per_step": seconds, "note": note}
        row["seconds_left"] = estimate_seconds(left, seconds)
    known = [row["seconds_left"] for row in rows if row["seconds_left"] is not None]
    num_samples = len(list_generators(study)) * study.evaluation.num_images
    return {
        "study": study.study.name,
        "cohorts": rows,
        "hours_left": sum(known) / 3600 if len(known) == len(rows) else None,
        "disk_bytes": {
            "checkpoints": sum(row["disk_bytes"] for row in rows),
            "samples": num_samples * prod(shape),
        },
        "peak_bytes": _find_peak_bytes() if with_timing else None,
    }


def count_steps_left(root: Path, study: Study) -> dict[str, list[int]]:
    """Count the updates of every instance that is not finished, of each cohort.

    Cohorts are named "gans/COHORT" or "classifiers/COHORT", each after those in its pool.
    """
    left: dict[str, dict[Instance, int]] = {}
    for path in sort_nodes(study):
        if path.startswith("pools/"):
            continue
        cohort, recipe = find_cohort(study, path), find_recipe(study, path)
        expected = {
            "seed": study.study.seed,
            "settings": recipe.model_dump(mode="json"),
            "cohort_settings": cohort.model_dump(mode="json", exclude={"instances"}),
        }
        members, left[path] = list_members(study, cohort.pool), {}
        for instance in list_instances(study, cohort):
            pool = [left[member][Instance(instance.chain, number)] for member, number in members]
            # trained anew with what it is trained against
            done = 0 if any(pool) else _count_steps(root, path, instance, expected)
            left[path][instance] = recipe.steps - done
    return {path: [steps for steps in left[path].values() if steps > 0] for path in left}


def _count_steps(root: Path, cohort: str, instance: Instance, expected: Mapping[str, Any]) -> int:
    """Count the steps that an instance has made, by its meta.json or its resume state."""
    steps = [0]
    kind, _, name = cohort.partition("/")
    states, pattern = layout.get_trainings(root, kind, name), f"{instance.file_name}-*"
    results = [path / layout.RESULT for path in states.glob(pattern)]
    if (layout.get_cohort_directory(root, cohort) / layout.COHORT_FILE).exists():
        results.append(layout.get_instance_directory(root, cohort, instance))
    for path in (result / layout.META_FILE for result in results):
        meta = read_json(path) if path.exists() else {}
        if all(meta.get(key) == value for key, value in expected.items()):
            steps.append(expected["settings"]["steps"])
    for path in states.glob(f"{pattern}/state.safetensors"):
        steps.append(json.loads(read_metadata(path)["counters"])["step"])
    return max(steps)


def _find_prepared_shape(root: Path, study: Study) -> ImageShape:
    """Find the shape of the reals by the settings, else as it was prepared."""
    data, path = study.data, root / layout.PREPARED / layout.DATASET_FILE
    if (shape := find_shape(data)) is not None:
        return shape
    prepared = read_json(path) if path.exists() else {}
    if prepared.get("name") == data.name:
        channels, height, width = prepared["image_shape"]
        return channels, height, width
    raise UserError(
        f"data.name: {data.name!r} found, the size of its images is not known; run `dvc repro "
        "prepare` first, or set data.resolution_px and data.channels where the source has them"
    )


def find_shape(data: DataSettings) -> ImageShape | None:
    """Find channels, height and width of an image where the settings alone tell them."""
    if data.resolution_px is not None and data.channels is not None:
        return data.channels, data.resolution_px, data.resolution_px
    return _KNOWN_SHAPES.get(data.name)


def _make_row(study: Study, path: str, left: Sequence[int], shape: ImageShape) -> dict[str, Any]:
    recipe, instances = (
        find_recipe(study, path),
        len(list_instances(study, find_cohort(study, path))),
    )
    networks = build_on_meta(path.partition("/")[0], recipe.architecture, recipe.model, shape)
    counts = {name: sum(map(torch.numel, net.parameters())) for name, net in networks.items()}
    states = [network.state_dict() for network in networks.values()]
    images_a_step = recipe.batch_size * recipe.gradient_accumulation_steps
    return {
        "cohort": path,
        "architecture": recipe.architecture,
        "parameters": counts,
        "instances": instances,
        "finished": instances - len(left),
        "steps": recipe.steps,  # of one training, at most where it may stop early
        "images": recipe.steps * images_a_step * instances,
        "steps_left": sum(left),
        "disk_bytes": sum(v.nbytes for state in states for v in state.values()) * instances,
    }


def _time_cohorts(study: Study, paths: Sequence[str], shape: ImageShape) -> dict[str, float | str]:
    """Time every distinct training once; return the seconds of a step, or why there are none."""
    known: dict[str, float | str] = {}
    found = {}
    for path in paths:
        recipe, pool = find_recipe(study, path), find_cohort(study, path).pool
        frozen = [find_recipe(study, member) for member, _ in list_members(study, pool)]
        described = [(member.architecture, member.model) for member in frozen]
        key = f"{recipe.model_dump(exclude=_NO_COST)} {described}"
        if key not in known:
            print(f"timing {path} ({recipe.architecture})", file=sys.stderr, flush=True)
            known[key] = time_training(recipe, frozen, shape)
        found[path] = known[key]
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
    numbers: dict[str, Any] = {"justify": "right", "no_wrap": True}
    trained = make_table("cohort", "finished", "steps", "images", "networks", **numbers)
    taken = make_table("cohort", "steps left", "s/step", "hours left", "checkpoints", "", **numbers)
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
    sums = [
        f"hours left: {'not known' if hours is None else f'{hours:,.2f}'}, without evaluation",
        "disk: " + ", ".join(f"{name} {decimal(n)}" for name, n in plan["disk_bytes"].items()),
        *([] if peak is None else [f"memory of one worker: at most {decimal(peak)}"]),
    ]
    return "\n\n".join([plan["study"], draw_table(trained), draw_table(taken), "\n".join(sums)])


def _format(count: int) -> str:
    """Write a count: whole up to 99,999, else with three digits."""
    power = 0 if count < 100_000 else min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}" if power else f"{count:,}"
