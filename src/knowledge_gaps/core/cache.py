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
    """Rows of one table by key; only rows that were asked for are kept when it is saved."""

    def __init__(self, root: Path, name: str) -> None:
        self._path = get_state_directory(root) / "rows" / f"{name}.json"
        try:
            self._known = read_json(self._path)
        except UserError:  # absent at first, and a damaged one is worth no more than none
            self._known = {}
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
        write_json(self._path, self._used)


def make_key(*parts: Any) -> str:
    """Hash JSON-able parts into a key."""
    return hashlib.sha256(dump_json(list(parts)).encode()).hexdigest()
