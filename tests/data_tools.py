"""What tests of the data room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_here(
    function: Callable[[_Item], _Result], items: Sequence[_Item], preload: str
) -> Iterator[_Result]:
    """Stand in for `runtime.parallel.map_parallel` without processes."""
    return map(function, items)
