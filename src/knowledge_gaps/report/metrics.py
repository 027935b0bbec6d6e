"""The headline numbers of a study for metrics.json, which `dvc metrics show` and `diff` read.

The rows of a sweep go by the names of their cohorts, with the value that the sweep is along beside
their numbers: a study with another value has the same names, so that the two can be compared.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from knowledge_gaps.analyses.audit.reading import Audit
from knowledge_gaps.core.tables import PHI
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.readings.reading import Metrics, Results, list_readings

_DIGITS = 6
_SETTINGS = (PHI, "truncation")  # written in full: 1e-7 is not 0


def make_headline_metrics(results: Results, readings: Mapping[str, Any]) -> Metrics:
    """Choose the numbers of the readings, by name, that a change of the study is judged by."""
    metrics: Metrics = {}
    for name, content in readings.items():
        reading = list_readings()[name]
        if reading.is_asked(results.study):
            metrics |= reading.make_metrics(results, content)
    return round_metrics(metrics)


def make_trust_metrics(audit: Audit, claims: Iterable[Mapping[str, Any]]) -> Metrics:
    """Say whether the shortcut audit passed and had power (1 or 0), and count the verdicts."""
    verdicts = Counter(claim["study"]["verdict"] for claim in claims)
    return {
        "audit_passed": float(audit.passed),
        "audit_has_power": float(audit.has_power),
        "verdicts": {word.value.replace(" ", "_"): float(verdicts[word]) for word in Verdict},
    }


def round_metrics(metrics: Metrics) -> Metrics:
    """Round results to 6 digits; leave out numbers that do not exist, and groups without any."""
    kept: Metrics = {}
    for key, value in metrics.items():
        if isinstance(value, dict):
            if inner := round_metrics(value):
                kept[key] = inner
        elif math.isfinite(value):
            kept[key] = float(value) if key in _SETTINGS else round(float(value), _DIGITS)
    return kept
