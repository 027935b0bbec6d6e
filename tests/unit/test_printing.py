"""How commands write counted things."""

from __future__ import annotations

import pytest

from knowledge_gaps.core.printing import count_words


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 sets of images"), (1, "1 set of images"), (2, "2 sets of images")]
)
def test_one_thing_is_in_the_singular(count: int, text: str) -> None:
    assert count_words(count, "set of images", "sets of images") == text
    assert count_words(count, "pair") == ("1 pair" if count == 1 else f"{count} pairs")
