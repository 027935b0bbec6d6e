"""What a class of params.yaml and its keys mean: the docstring, entry by entry.

A key without an entry is an error and not an empty cell, so that no key stays unexplained.
"""

from __future__ import annotations

import inspect
import re

from pydantic import BaseModel

_HEADING = "Attributes:"
_INDENT = "    "  # of an entry; its further lines stand deeper
_ENTRY = re.compile(r"(\w+): +(\S.*)")


def read_summary(model: type[BaseModel]) -> str:
    """Return what a class's docstring says before its list of keys, as one line."""
    before, _, _ = _read_docstring(model).partition(f"\n{_HEADING}\n")
    return " ".join(before.split())


def read_meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what each key of a class means, in the order of its fields, each as one line.

    Keys that are inherited may be explained where they are inherited from; the entry that is
    nearest to the class counts.

    Raises:
        ValueError: when a key has no entry, or an entry no key.
    """
    entries: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            entries.update(read_entries(parent))
    for names, others, fault in (
        (model.model_fields, entries, "is not explained under"),
        (entries, model.model_fields, "is no key, but stands under"),
    ):
        for name in names:
            if name not in others:
                raise ValueError(f"{model.__name__}.{name} {fault} '{_HEADING}' of the docstring")
    return {name: entries[name] for name in model.model_fields}


def read_entries(model: type[BaseModel]) -> dict[str, str]:
    """Return the entries of a class's own docstring by key; none where it has no list of keys.

    Raises:
        ValueError: when a line is neither an entry nor the continuation of one, or a key stands
            there twice.
    """
    entries: dict[str, str] = {}
    last = ""
    for line in _list_lines(model):
        text = line.removeprefix(_INDENT)
        if text.startswith(" ") and last:
            entries[last] += f" {text.strip()}"
            continue
        match = _ENTRY.fullmatch(text)
        if match is None or match[1] in entries:
            raise ValueError(f"{model.__name__}: no entry, or one twice: {line!r}")
        last = match[1]
        entries[last] = match[2]
    return entries


def _list_lines(model: type[BaseModel]) -> list[str]:
    """List the lines below the heading that are not empty, up to the next line at the margin."""
    _, _, after = _read_docstring(model).partition(f"\n{_HEADING}\n")
    lines: list[str] = []
    for line in filter(str.strip, after.splitlines()):
        if not line.startswith(_INDENT):
            break
        lines.append(line.rstrip())
    return lines


def _read_docstring(model: type[BaseModel]) -> str:
    """Return a class's own docstring without its indentation, and not one that it inherits."""
    return inspect.cleandoc(vars(model).get("__doc__") or "")
