"""The comparison that CI makes of a reproduction with the committed numbers."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


comparison = SimpleNamespace(**runpy.run_path(str(REPOSITORY / ".ci" / "compare_metrics.py")))


def test_every_headline_metric_has_a_tolerance() -> None:
    names = comparison.flatten(json.loads((REPOSITORY / comparison.METRICS_FILE).read_text()))
    assert names
    for name in names:
        comparison.find_tolerance(name)
    with pytest.raises(KeyError):
        comparison.find_tolerance("something.new")
    assert comparison.flatten({"a": {"b": 1, "c": {"d": 0.5}}}) == {"a.b": 1.0, "a.c.d": 0.5}


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("phi_sweep.phi_1e-1.phi", 0.0),
        ("phi_sweep.phi_1e-1.fid_lenet_4k", 5.0),
        ("phi_sweep.phi_1e4.in_loss_detection", 0.1),
        ("phi_sweep.phi_1e4.fid_lenet_4k", None),
        ("multi_instance.multi-2.held_out_detection", 0.25),
        ("generalisation.n_1.held_out_detection", 0.4),
        ("truncation.psi_05.held_out_detection", 0.15),
    ],
)
def test_rows_of_sweeps_go_by_their_cohorts(name: str, limit: float | None) -> None:
    assert comparison.find_tolerance(name) == limit


@pytest.mark.parametrize(
    ("found", "must_be_identical", "num_lines"),
    [
        ({"real_accuracy.n_1": 0.99}, True, 0),
        ({"real_accuracy.n_1": 0.990001}, True, 1),
        ({"real_accuracy.n_1": 0.98}, False, 0),
        ({"real_accuracy.n_1": 0.96}, False, 1),
        ({}, False, 1),
        ({"real_accuracy.n_1": 0.99, "real_accuracy.n_9": 0.99}, False, 1),
    ],
)
def test_differences(found: dict[str, float], must_be_identical: bool, num_lines: int) -> None:
    committed = {"real_accuracy.n_1": 0.99}
    assert len(comparison.list_differences(found, committed, must_be_identical)) == num_lines
