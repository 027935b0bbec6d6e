"""What tests of the data room share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_here(
    function: Callable[[_Item], _Result], items: Sequence[_Item], title: str
) -> Iterator[_Result]:
    """Make images in this process, a `data.images.MapImages`."""
    return map(function, items)
