"""Reading params.yaml, the only place that does; every fault of it is an error of one line.

And what `kgaps settings` does: listing the studies in settings/, writing one to params.yaml, and
describing the keys of any.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.core.files import write_text
from knowledge_gaps.study.graph import check_graph
from knowledge_gaps.study.schema import Study

PARAMS_FILE = "params.yaml"
_DIRECTORY = "settings"
_HEAD = """# Keys of params.yaml

These are all the keys; any other is refused. `NAME` is a name of your own, `[]` an entry of a list.
Written by `kgaps settings describe` from `src/knowledge_gaps/study` and the architectures.
"""
_TABLE = "| key | value | default | meaning |\n|---|---|---|---|"
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_Schema = dict[str, Any]


def load_study(path: Path) -> Study:
    """Read a study and check keys, types, ranges and references; raises a UserError of one line."""
    return validate_study(read_yaml(path), path.name)


def validate_study(content: Any, name: str) -> Study:
    """Check the content of a params.yaml, called `name` in errors; raises as `load_study`."""
    try:
        study = Study.model_validate(content)
        check_graph(study)
    except ValidationError as error:
        raise UserError(f"{name}: {describe_first_error(error, Study)}") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    return study


def read_yaml(path: Path) -> Any:
    """Read YAML 1.2 by DVC's parser, a key only once; raises UserError if it is not valid."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; kgaps runs in the repository's root") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{path.name}: not valid YAML: {error}") from error
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> Any:
    """Parse the text of a YAML file of some name; raises UserError when it is not valid."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise UserError(f"{name}{where}: not valid YAML: {error.problem}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply") from error
    except (YAMLError, ValueError) as error:
        raise UserError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error


def list_studies(root: Path) -> dict[str, str]:
    """Map the studies in settings/ to the first sentence of each, "" where there is none."""
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

    Raises UserError for a bad study, or if not forced, for content of params.yaml that is neither
    in settings/ nor committed.
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
    kept = [path.read_bytes() for path in (root / _DIRECTORY).glob("*.yaml")]
    command = ["git", "show", f"HEAD:./{PARAMS_FILE}"]
    with suppress(OSError):  # there is no git
        kept.append(subprocess.run(command, cwd=root, capture_output=True, check=False).stdout)
    if content and content not in kept and not is_forced:
        raise UserError(
            f"{PARAMS_FILE}: has changes that are neither in {_DIRECTORY}/ nor committed; keep "
            "them as a file there, or write over them with --force"
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
