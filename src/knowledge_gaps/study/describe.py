"""The reference of params.yaml as Markdown, from the docstrings of the types that read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from knowledge_gaps.study.schema import Study

_HEAD = """# Keys of params.yaml

These are all the keys; any other is refused. `NAME` is a name of your own, `[]` an entry of a list.
Written by `kgaps settings describe` from `src/knowledge_gaps/study` and the architectures.
"""
_TABLE = "| key | value | default | meaning |\n|---|---|---|---|"
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_Schema = dict[str, Any]


def describe_study(architectures: Mapping[str, type[BaseModel]]) -> str:
    """Describe all keys of params.yaml, and of `model` by the architectures that take it."""
    study = Study.model_json_schema()
    sections = {"": study, **dict(_list_sections("", study, study["$defs"]))}
    for names, settings in architectures.items():
        sections[f"model of {names}"] = settings.model_json_schema()
    return "\n".join([_HEAD, *(_describe(path, schema) for path, schema in sections.items())])


def _list_sections(path: str, schema: _Schema, defs: _Schema) -> Iterator[tuple[str, _Schema]]:
    """Yield path and schema of every section, each after the one that holds it."""
    for key, value in schema["properties"].items():
        for option in value.get("anyOf", [value]):
            item, entry = option.get("items", {}), option.get("additionalProperties", {})
            inner = {"": option, "[]": item, ".NAME": entry if isinstance(entry, dict) else {}}
            for suffix, target in inner.items():
                if "$ref" in target:
                    section = defs[target["$ref"].rpartition("/")[2]]
                    yield (place := f"{path}{key}{suffix}"), section
                    yield from _list_sections(f"{place}.", section, defs)


def _describe(path: str, schema: _Schema) -> str:
    rows = []
    for key, value in schema["properties"].items():
        is_needed, default = key in schema.get("required", []), json.dumps(value.get("default", []))
        meaning = value.get("description", "").replace("\n", " ")
        cells = (f"`{key}`", _describe_value(value), "" if is_needed else f"`{default}`", meaning)
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [f"## `{path or 'params.yaml'}`\n", schema["description"], "", _TABLE, *rows, ""]
    )


def _describe_value(value: _Schema) -> str:
    if "anyOf" in value:
        return " or ".join(map(_describe_value, value["anyOf"]))
    if "enum" in value:
        return ", ".join(f"`{entry}`" for entry in value["enum"])
    bounds = [f"{sign} {value[key]}" for key, sign in _BOUNDS.items() if key in value]
    of = f" of {_describe_value(value['items'])}" if "items" in value else ""
    return " ".join([value.get("type", "section") + of, *bounds])
