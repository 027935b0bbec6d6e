"""What becomes of instances whose worker died."""

from __future__ import annotations

from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import pytest

from knowledge_gaps.execution.assignment import Group
from knowledge_gaps.execution.workers import Outcome, _note_death


def make_worker(*instances: int) -> Any:
    """Make a worker that was killed while it trained instances together."""
    group = tuple(
        SimpleNamespace(task=SimpleNamespace(cohort_path="gans/a", instance=instance))
        for instance in instances
    )
    return SimpleNamespace(group=group, process=SimpleNamespace(exitcode=-9))


def list_instances(groups: deque[Group]) -> list[list[int]]:
    return [[entry.task.instance for entry in group] for group in groups]


def test_one_instance_that_kills_its_workers_fails_alone() -> None:
    """Sixteen train together; the one with index 11 kills whatever process it is in."""
    outcome, deaths = Outcome(), Counter[int]()
    waiting: deque[Any] = deque([make_worker(*range(16)).group])
    trained: list[int] = []
    while waiting:
        worker = make_worker(*(entry.task.instance for entry in waiting.popleft()))
        if 11 in [entry.task.instance for entry in worker.group]:
            _note_death(worker, waiting, outcome, deaths)
        else:
            trained += [entry.task.instance for entry in worker.group]
    assert sorted(trained) == [instance for instance in range(16) if instance != 11]
    assert list(outcome.errors) == [11]
    assert outcome.errors[11].endswith("2 times before too; the same command resumes")


def test_halves_come_back_in_order_before_others(capsys: pytest.CaptureFixture[str]) -> None:
    waiting: deque[Any] = deque([make_worker(7).group])
    _note_death(make_worker(0, 1, 2), waiting, Outcome(), Counter())
    assert list_instances(waiting) == [[0, 1], [2], [7]]
    assert capsys.readouterr().err.count("resumed") == 3
