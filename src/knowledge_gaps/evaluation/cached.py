"""Rows of a table that are computed once: known ones come from a cache on disk.

A row is stored with its sha256; one that was altered is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import make_key, read_json, write_json
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
        stored = read_json(path)
    except UserError:  # absent at first, and a damaged one is worth no more than none
        stored = {}
    known = {key: entry["row"] for key, entry in stored.items() if _is_whole(key, entry)}
    cached = {item: known[key] for item, key in keys.items() if key in known}
    rows = {item: row for item, row in cached.items() if is_valid(item, row)}
    missing = [item for item in keys if item not in rows]
    for part in compute(missing):
        rows |= part
        stored = {keys[item]: row for item, row in rows.items()}
        hashed = {key: {"row": row, "sha256": make_key(key, row)} for key, row in stored.items()}
        write_json(path, hashed)
    num_cached = len(keys) - len(missing)
    print(f"{table}: computed {count_words(len(missing), 'row')}, {num_cached} cached", flush=True)
    return {item: rows[item] for item in keys}


def _is_whole(key: str, entry: Any) -> bool:
    try:
        return bool(entry["sha256"] == make_key(key, entry["row"]))
    except (KeyError, TypeError, ValueError):  # of another shape, or with numbers that are not JSON
        return False
