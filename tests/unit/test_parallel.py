"""A function over items on worker processes, and what a worker's death becomes."""

from __future__ import annotations

import os

import pytest

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.parallel import map_parallel


def end_at_two(item: int) -> int:
    if item == 2:
        os._exit(9)
    return item * item


def test_killed_worker_is_an_error_of_one_line() -> None:
    results = map_parallel(end_at_two, [0, 1, 2], "knowledge_gaps.runtime.errors")
    with pytest.raises(UserError, match="a worker's process ended by itself") as caught:
        list(results)
    assert "\n" not in str(caught.value)
