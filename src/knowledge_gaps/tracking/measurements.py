"""The two tables as metrics: what evaluation measured of one trained instance.

The tables say nothing about which bytes they were measured on, so only a whole `sync_study`
reads them, after the pipeline has brought them up to date.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import get_reports_directory
from knowledge_gaps.tracking.records import (
    InstanceRecord,
    clean_name,
    flatten,
    parse_number,
)

_QUALITY_KEYS = ("generator_cohort", "generator_instance", "phi")  # columns that are no metric


@dataclass(frozen=True)
class Measurements:
    """The two tables and the headline numbers, as far as they exist.

    Attributes:
        quality: rows of quality.csv.
        detections: rows of detections.csv.
        headline: metrics.json, flattened with "/".
    """

    quality: list[dict[str, str]]
    detections: list[dict[str, str]]
    headline: dict[str, float]

    @classmethod
    def read(cls, root: Path) -> Measurements:
        """Read reports/quality.csv, detections.csv and metrics.json; a missing one is empty."""
        reports = get_reports_directory(root)
        metrics = reports / "metrics.json"
        headline = flatten(read_json(metrics), "/") if metrics.is_file() else {}
        return cls(
            _read_rows(reports / "quality.csv"),
            _read_rows(reports / "detections.csv"),
            _keep_finite(headline),
        )

    def collect_metrics(self, record: InstanceRecord) -> dict[str, float]:
        """Collect the final metrics of one instance.

        Returns:
            For a generator every metric of quality.csv, for a classifier real_accuracy; for both
            detection_rate/COHORT/GROUP and auc/COHORT/GROUP, means over the pairs with a cohort
            of the other side that are in_loss, in_training or held_out, which is neither.
        """
        generators = record.kind == "gans"
        own, other = ("generator", "classifier") if generators else ("classifier", "generator")
        rows = [row for row in self.detections if _is_about(row, own, record)]
        metrics: dict[str, float] = {}
        for cohort in sorted({row[f"{other}_cohort"] for row in rows}):
            pairs = [row for row in rows if row[f"{other}_cohort"] == cohort]
            for name in ("detection_rate", "auc"):
                metrics |= _average_groups(pairs, name, f"{name}/{clean_name(cohort)}")
        if generators:
            metrics |= self._collect_quality(record)
        else:
            metrics |= _average(rows, "real_accuracy", "real_accuracy")
        return _keep_finite(metrics)

    def summarise_classifier(self, record: InstanceRecord) -> dict[str, float]:
        """Collect what the registry says of a classifier: real_accuracy and the rates of groups."""
        rows = [row for row in self.detections if _is_about(row, "classifier", record)]
        return _keep_finite(
            _average(rows, "real_accuracy", "real_accuracy")
            | _average_groups(rows, "detection_rate", "detection_rate")
        )

    def _collect_quality(self, record: InstanceRecord) -> dict[str, float]:
        metrics = {}
        for row in self.quality:
            if _is_about(row, "generator", record):
                for name in row:
                    value = parse_number(row[name])
                    if name not in _QUALITY_KEYS and value is not None:
                        metrics[clean_name(name)] = value
        return metrics


def _keep_finite(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float)}
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _is_about(row: Mapping[str, str], side: str, record: InstanceRecord) -> bool:
    is_cohort = row[f"{side}_cohort"] == record.cohort
    return is_cohort and int(row[f"{side}_instance"]) == record.instance


def _is_true(cell: str) -> bool:
    return cell.strip().lower() in ("true", "1")


def _average(rows: Iterable[Mapping[str, str]], column: str, name: str) -> dict[str, float]:
    cells = [parse_number(row.get(column)) for row in rows]
    values = [value for value in cells if value is not None and math.isfinite(value)]
    return {name: fmean(values)} if values else {}


def _average_groups(rows: Iterable[Mapping[str, str]], column: str, name: str) -> dict[str, float]:
    """Average a column over the pairs in the loss, in training and, held out, in neither."""
    groups: dict[str, list[Mapping[str, str]]] = {"in_loss": [], "in_training": [], "held_out": []}
    for row in rows:
        flags = [flag for flag in ("in_loss", "in_training") if _is_true(row[flag])]
        for group in flags or ["held_out"]:
            groups[group].append(row)
    averages: dict[str, float] = {}
    for group in groups:
        averages |= _average(groups[group], column, f"{name}/{group}")
    return averages
