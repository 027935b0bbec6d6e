"""Rows that were computed before are taken from the cache, unless anybody has altered them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from knowledge_gaps.evaluation.cached import compute_rows

KEYS = {"a": "key of a", "b": "key of b"}


def compute(root: Path, keys: dict[str, str], computed: list[str]) -> dict[str, Any]:
    """Compute rows, and say of which items they were not in the cache."""

    def compute_missing(items: list[str]) -> list[dict[str, Any]]:
        computed.extend(items)
        return [{item: {"rate": 0.5 if item == "a" else 0.25} for item in items}]

    return compute_rows(root, "scores", keys, compute_missing)


def alter(stored: dict[str, Any], column: str, value: Any) -> None:
    stored[KEYS["a"]]["row"][column] = value


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: alter(stored, "rate", 0.75),
        lambda stored: alter(stored, "other", 1),
        lambda stored: alter(stored, "rate", float("nan")),
        lambda stored: stored.update({KEYS["a"]: {"rate": 0.5}}),
        lambda stored: stored.update({KEYS["a"]: [0.5]}),
        lambda stored: stored.update({KEYS["a"]: stored[KEYS["b"]]}),
    ],
    ids=["value", "column", "no number", "without hash", "list", "another key's"],
)
def test_altered_row_is_computed_again(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    rows = compute(tmp_path, KEYS, [])
    [path] = tmp_path.rglob("scores.json")
    stored = json.loads(path.read_text())
    damage(stored)
    path.write_text(json.dumps(stored))
    computed: list[str] = []
    assert compute(tmp_path, KEYS, computed) == rows
    assert computed == ["a"]


def test_cache_serves_the_same_key_alone(tmp_path: Path) -> None:
    compute(tmp_path, KEYS, [])
    for keys, expected in ((KEYS, []), ({**KEYS, "a": "another"}, ["a"])):
        computed: list[str] = []
        compute(tmp_path, keys, computed)
        assert computed == expected
    [path] = tmp_path.rglob("scores.json")
    path.write_text("{")  # as a full disk leaves it
    computed = []
    compute(tmp_path, KEYS, computed)
    assert computed == ["a", "b"]
