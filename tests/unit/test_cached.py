"""Rows that were computed before are taken from the cache, unless anybody has altered them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from knowledge_gaps.evaluation.cached import Row, compute_rows

KEYS = {"a": "key of a", "b": "key of b"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda stored: stored[KEYS["a"]]["row"].update(rate=0.75),
        lambda stored: stored[KEYS["a"]]["row"].update(other=1),
        lambda stored: stored[KEYS["a"]]["row"].update(rate=float("nan")),
        lambda stored: stored.update({KEYS["a"]: {"rate": 0.5}}),
        lambda stored: stored.update({KEYS["a"]: [0.5]}),
        lambda stored: stored.update({KEYS["a"]: stored[KEYS["b"]]}),
    ],
    ids=["value", "column", "no number", "without hash", "list", "another key's"],
)
def test_altered_row_is_computed_again(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    asked: list[list[str]] = []

    def compute(items: list[str]) -> list[dict[str, Row]]:
        asked.append(items)
        return [{item: {"rate": 0.5 if item == "a" else 0.25} for item in items}]

    rows = compute_rows(tmp_path, "scores", KEYS, compute)
    [path] = tmp_path.rglob("scores.json")
    stored = json.loads(path.read_text())
    damage(stored)
    path.write_text(json.dumps(stored))
    assert compute_rows(tmp_path, "scores", KEYS, compute) == rows
    assert asked == [["a", "b"], ["a"]]


def test_only_rows_that_are_not_cached_are_computed(tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def compute(items: list[str]) -> list[dict[str, Row]]:
        asked.append(items)
        return [{item: {"length": len(item)}} for item in reversed(items)]

    keys = {"one": "1", "three": "2"}
    expected = {"one": {"length": 3}, "three": {"length": 5}}
    assert compute_rows(tmp_path, "lengths", keys, compute) == expected
    found = compute_rows(tmp_path, "lengths", keys | {"five": "3"}, compute)
    assert list(found) == ["one", "three", "five"]  # in the order of the keys
    compute_rows(tmp_path, "lengths", keys, compute, lambda item, row: item != "one")
    compute_rows(tmp_path, "lengths", keys | {"three": "9"}, compute)
    [file] = tmp_path.rglob("lengths.json")
    file.write_text("{")  # damaged
    assert compute_rows(tmp_path, "lengths", keys, compute) == expected
    assert asked == [["one", "three"], ["five"], ["one"], ["three"], ["one", "three"]]


def test_rows_that_were_computed_before_an_error_are_cached(tmp_path: Path) -> None:
    keys = {"first": "1", "second": "2"}

    def fail() -> Iterator[dict[str, Row]]:
        yield {"first": {"value": 1}}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_rows(tmp_path, "values", keys, lambda _: fail())
    rows = compute_rows(tmp_path, "values", keys, lambda items: [{key: {} for key in items}])
    assert rows == {"first": {"value": 1}, "second": {}}
