"""`kgaps settings`: the studies in settings/, writing one to params.yaml, and the keys of any."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_text
from knowledge_gaps.study.load import PARAMS_FILE, load_study
from knowledge_gaps.study.schema import Study

_DIRECTORY = "settings"
_HEAD = """# Keys of params.yaml

These are all the keys; any other is refused. `NAME` is a name of your own, `[]` an entry of a list.
Written by `kgaps settings describe` from `src/knowledge_gaps/study` and the architectures.
"""
_TABLE = "| key | value | default | meaning |\n|---|---|---|---|"
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_Schema = dict[str, Any]


def list_studies(root: Path) -> dict[str, str]:
    """Map the studies in settings/ to what each is for; raises UserError without that folder.

    That is the first sentence of the comment that a file begins with, "" where there is none.
    """
    if not (root / _DIRECTORY).is_dir():
        raise UserError(f"{_DIRECTORY}/: missing; kgaps runs in the repository's root")
    purposes = {}
    for path in sorted((root / _DIRECTORY).glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        comment = takewhile(lambda line: line.startswith("#"), lines)
        text = " ".join(line.lstrip("# ").rstrip() for line in comment)
        sentence, is_followed, _ = text.partition(". ")
        purposes[path.stem] = sentence + "." if is_followed else sentence
    return purposes


def use_study(root: Path, name: str, is_forced: bool = False) -> None:
    """Write a study of settings/ to params.yaml, after it was checked.

    Raises UserError when there is none of that name, it is not valid, or params.yaml has content
    that is nowhere else (unless `is_forced`).
    """
    known = list_studies(root)
    if name not in known:
        raise UserError(
            f"settings: there is no {name!r} in {_DIRECTORY}/ (known: {', '.join(known)})"
        )
    source = root / _DIRECTORY / f"{name}.yaml"
    load_study(source)
    file = root / PARAMS_FILE
    content = file.read_bytes() if file.is_file() else b""
    known_contents = [path.read_bytes() for path in (root / _DIRECTORY).glob("*.yaml")]
    if content and content not in known_contents and not is_forced:
        raise UserError(
            f"{PARAMS_FILE}: has changes that are not in {_DIRECTORY}/; keep them there as a file, "
            "or write over them with --force"
        )
    write_text(file, source.read_text(encoding="utf-8"))


def describe_keys(architectures: Mapping[str, type[BaseModel]]) -> str:
    """Describe all keys of params.yaml as Markdown, and of `model` by architectures."""
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
    head = f"## `{path or PARAMS_FILE}`\n"
    return "\n".join([head, schema["description"], "", _TABLE, *rows, ""])


def _describe_value(value: _Schema) -> str:
    if "anyOf" in value:
        return " or ".join(map(_describe_value, value["anyOf"]))
    if "enum" in value:
        return ", ".join(f"`{entry}`" for entry in value["enum"])
    bounds = [f"{sign} {value[key]}" for key, sign in _BOUNDS.items() if key in value]
    of = f" of {_describe_value(value['items'])}" if "items" in value else ""
    return " ".join([value.get("type", "section") + of, *bounds])
