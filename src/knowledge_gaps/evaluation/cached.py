"""Rows of a table that are computed once: known ones come from a cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.layout import get_state_directory
from knowledge_gaps.core.printing import count_words

Row = dict[str, Any]
_Item = TypeVar("_Item", bound=Hashable)


def compute_rows(
    root: Path,
    table: str,
    keys: Mapping[_Item, str],
    compute: Callable[[list[_Item]], Iterable[Mapping[_Item, Row]]],
    is_valid: Callable[[_Item, Row], bool] = lambda item, row: True,
) -> dict[_Item, Row]:
    """Return the row of every item; only those that are not in the cache are computed.

    Args:
        root: of the repository, whose `.kgaps/cache` holds the rows.
        table: name of the cache file; it also opens the line that is printed at the end.
        keys: for each item a hash of all that its row depends on (`core.files.make_key`).
        compute: yields JSON-able rows of some items in parts, after each of which they are saved.
        is_valid: tells whether a cached row may be used.
    """
    path = get_state_directory(root) / "cache" / f"{table}.json"
    try:
        known = read_json(path)
    except UserError:  # absent at first, and a damaged one is worth no more than none
        known = {}
    rows: dict[_Item, Row] = {item: known[key] for item, key in keys.items() if key in known}
    rows = {item: row for item, row in rows.items() if is_valid(item, row)}
    missing = [item for item in keys if item not in rows]
    for part in compute(missing):
        rows |= part
        write_json(path, {keys[item]: row for item, row in rows.items()})
    num_cached = len(keys) - len(missing)
    print(f"{table}: computed {count_words(len(missing), 'row')}, {num_cached} cached", flush=True)
    return {item: rows[item] for item in keys}
