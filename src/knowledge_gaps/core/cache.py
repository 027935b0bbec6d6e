"""Rows that were computed before, by the hash of all that they were computed from.

State of one machine, no result: deleting it costs time and changes no number.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import dump_json, read_json, write_json
from knowledge_gaps.core.layout import get_state_directory

Row = dict[str, Any]


class RowCache:
    """Rows of one table by key; only rows that were asked for are kept when it is saved.

    A row is stored with its sha256. One that was altered is computed again.

    Args:
        root: the repository's root.
        name: of the table.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._path = get_state_directory(root) / "cache" / f"{name}.json"
        try:
            stored = read_json(self._path)
        except UserError:  # absent at first, and a damaged one is worth no more than none
            stored = {}
        self._known = {key: entry["row"] for key, entry in stored.items() if _is_whole(key, entry)}
        self._used: dict[str, Row] = {}

    def get(self, key: str) -> Row | None:
        """Return the row of a key, or None."""
        row: Row | None = self._known.get(key)
        if row is not None:
            self._used[key] = row
        return row

    def put(self, key: str, row: Row) -> None:
        """Keep a row."""
        self._known[key] = self._used[key] = row

    def save(self) -> None:
        """Write the rows that were asked for or put since the cache was opened."""
        rows = self._used.items()
        write_json(
            self._path, {key: {"row": row, "sha256": make_key(key, row)} for key, row in rows}
        )


def make_key(*parts: Any) -> str:
    """Hash JSON-able parts into a key."""
    return hashlib.sha256(dump_json(list(parts)).encode()).hexdigest()


def _is_whole(key: str, entry: Any) -> bool:
    try:
        return bool(entry["sha256"] == make_key(key, entry["row"]))
    except (KeyError, TypeError, ValueError):  # of another shape, or with numbers that are not JSON
        return False
