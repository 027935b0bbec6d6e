"""What MLflow shows of a trained instance, from meta.json, curves.csv and the tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from knowledge_gaps.core import layout
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file, read_json

Point = tuple[str, float, int]  # metric, value, step
Measurements = Mapping[str, Mapping[str, float]]  # metrics by "KIND/COHORT/INSTANCE"

_META_PARAMS = ("architecture", "seed", "steps", "images_seen")
_MOST_CHARACTERS = 6000  # MLflow stores no more of a parameter; the artifact meta.json has all
_SIDES = {"gans": ("generator", "classifier"), "classifiers": ("classifier", "generator")}


def read_cohort(root: Path, kind: str, cohort: str) -> Iterator[tuple[Path, str]]:
    """List the directories of a trained cohort's instances, and the sha256 of each meta.json.

    Raises:
        UserError: when a meta.json is missing or is not the one that cohort.json recorded.
    """
    directory = layout.get_cohort_directory(root, f"{kind}/{cohort}")
    if (directory / layout.COHORT_FILE).is_file():
        for entry in read_json(directory / layout.COHORT_FILE)["instances"]:
            path = directory / str(entry["instance"])
            if (found := hash_file(path / layout.META_FILE)) != entry["sha256"]:
                recorded = f"{layout.COHORT_FILE} recorded {entry['sha256']}"
                raise UserError(f"{path / layout.META_FILE}: sha256 is {found}, {recorded}")
            yield path, found


def flatten(values: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Flatten nested mappings: {"a": {"b": 1}} becomes {"a.b": 1} with separator "."."""
    [flat] = pd.json_normalize(dict(values), sep=separator).to_dict("records") or [{}]
    return {str(name): value for name, value in flat.items()}


def collect_params(meta: Mapping[str, Any]) -> dict[str, str]:
    """Collect a run's parameters from meta.json, or from the part known before the training."""
    values = flatten(meta.get("cohort_settings", {}), ".")
    values |= {name: meta[name] for name in _META_PARAMS if name in meta}
    values |= flatten({"settings": meta.get("settings", {})}, ".")
    texts = {name: v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}
    return {name: text[:_MOST_CHARACTERS] for name, text in texts.items()}


def collect_inputs(meta: Mapping[str, Any]) -> dict[str, str]:
    """Collect the tags that name what an instance was trained on: the data and the pool."""
    lineage = meta["lineage"]
    tags = {"kgaps.data_sha256": str(lineage["data"]["sha256"])}
    for index, member in enumerate(lineage["pool"]):
        tags[f"kgaps.pool.{index}"] = "{cohort}/{instance} sha256={sha256}".format(**member)
    return tags


def read_curves(path: Path) -> list[Point]:
    """Read curves.csv as points of metrics; empty cells are left out."""
    cells: Any = pd.read_csv(path, index_col="step").stack(future_stack=True).dropna()
    return [(str(name), float(value), int(step)) for (step, name), value in cells.items()]


def read_measurements(root: Path) -> Measurements:
    """Read what evaluation measured, from its two tables.

    Of generators the metrics of quality.csv, of classifiers the real_accuracy; of both
    detection_rate/COHORT/GROUP and auc/COHORT/GROUP, means over the pairs with a cohort of the
    other side that are in_loss, in_training or, held_out, neither.
    """
    measured: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def average(rows: pd.DataFrame, kind: str, metrics: list[str], *by: str) -> None:
        side = _SIDES[kind][0]
        means: Any = rows.groupby([f"{side}_cohort", f"{side}_instance", *by])[metrics].mean()
        cells = means.stack(future_stack=True).dropna()
        for (cohort, instance, *parts, name), value in cells.items():
            metric = "/".join(map(str, (name, *parts)))
            measured[f"{kind}/{cohort}/{instance}"][metric] = float(value)

    reports = layout.get_reports_directory(root)
    if (reports / layout.QUALITY_FILE).is_file():
        quality = pd.read_csv(reports / layout.QUALITY_FILE)
        numbers = quality.select_dtypes("number").columns.drop(["generator_instance", "phi"])
        average(quality, "gans", list(numbers))
    if (reports / layout.DETECTIONS_FILE).is_file():
        pairs = pd.read_csv(reports / layout.DETECTIONS_FILE)
        pairs["held_out"] = ~(pairs["in_loss"] | pairs["in_training"])
        groups = ["in_loss", "in_training", "held_out"]
        others = [name for name in pairs if name not in groups]
        grouped = pairs.melt(others, groups, "group", "is_in").query("is_in")
        for kind, (_, other) in _SIDES.items():
            average(grouped, kind, ["detection_rate", "auc"], f"{other}_cohort", "group")
        average(pairs, "classifiers", ["real_accuracy"])
    return measured
