"""docs/params.md: a section of the page for every section of params.yaml, with a table of its keys.

Sections that have the same keys, such as all optimisers, share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from knowledge_gaps.manual.meanings import read_meanings, read_summary
from knowledge_gaps.manual.values import NEEDED, ValueWords, describe_default
from knowledge_gaps.models.registry import classifier_architectures, gan_architectures
from knowledge_gaps.study import Study

COMMAND = "kgaps settings describe > docs/params.md"  # writes the page

_INTRODUCTION = f"""\
# Keys of params.yaml

These are all the keys; any other is refused. In a path, `NAME` is a name of your own (up to 64
letters, digits, `_` and `-`, the first a letter or a digit), and `[]` an entry of a list. A key
whose default is "{NEEDED}" must be there. `kgaps sweep` and `dvc exp run -S` take a key by its
whole path, such as `gan_recipes.dcgan.steps`. `kgaps check` also finds values that do not go
together. What the sections are for is in [study.md](study.md), and `settings/` has whole studies.

This page is written from the docstrings of the types that read params.yaml, by
`{COMMAND}`; edit those, not the page.
"""
_ARCHITECTURES = "Settings of the architectures"
_ARCHITECTURES_TEXT = "What `model` of a recipe may hold depends on its `architecture`."
_TABLE_HEAD = "| key | value | default | meaning |\n|---|---|---|---|"
_LEVEL = 2  # of the headings of params.yaml's own sections; deeper ones lie in those


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Attributes:
        heading: in Markdown, without the signs of its level.
        level: of the heading, 1 for the page's title.
        model: the class whose keys it describes.
    """

    heading: str
    level: int
    model: type[BaseModel]

    @property
    def anchor(self) -> str:
        """What a link to it says."""
        return make_anchor(self.heading)


def render_page() -> str:
    """Return the page.

    Raises:
        ValueError: when a key is not explained by a docstring.
        TypeError: when there are no words for what a key may hold.
    """
    sections, architectures = list_sections(Study), list_architectures()
    anchors: dict[Any, str] = {part.model: part.anchor for part in sections}
    anchors[Any] = make_anchor(_ARCHITECTURES)
    words = ValueWords(anchors)
    return "\n".join(
        [
            _INTRODUCTION,
            f"{render_table(Study, words)}\n",
            *(render_part(part, words) for part in sections),
            f"## {_ARCHITECTURES}\n\n{_ARCHITECTURES_TEXT}\n",
            *(render_part(part, words) for part in architectures),
        ]
    ).removesuffix("\n")


def list_sections(root: type[BaseModel]) -> list[Part]:
    """List the sections below a class, each before those that lie in it.

    Args:
        root: the class of the whole file.
    """
    paths: dict[type[BaseModel], list[str]] = {}
    for path, model in _walk(root, ""):
        paths.setdefault(model, []).append(path)
    return [_make_section(model, found) for model, found in paths.items()]


def list_architectures() -> list[Part]:
    """List the settings of all architectures, GANs first."""
    names: dict[tuple[str, type[BaseModel]], list[str]] = {}
    for kind, registry in (("GAN", gan_architectures), ("classifier", classifier_architectures)):
        for name in registry.list_names():
            names.setdefault((kind, registry.get(name).settings), []).append(f"`{name}`")
    return [
        Part(f"{', '.join(found)} ({kind})", _LEVEL + 1, model)
        for (kind, model), found in names.items()
    ]


def render_part(part: Part, words: ValueWords) -> str:
    """Return a section of the page: heading, what it is for, its keys."""
    heading = f"{'#' * part.level} {part.heading}"
    return f"{heading}\n\n{read_summary(part.model)}\n\n{render_table(part.model, words)}\n"


def render_table(model: type[BaseModel], words: ValueWords) -> str:
    """Return the table of a class's keys."""
    rows = [_TABLE_HEAD]
    for name, meaning in read_meanings(model).items():
        field = model.model_fields[name]
        values = words.describe(field.annotation, field.metadata)
        rows.append(_render_row([f"`{name}`", values, describe_default(field), meaning]))
    return "\n".join(rows)


def make_anchor(heading: str) -> str:
    """Return the anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _render_row(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _make_section(model: type[BaseModel], paths: Sequence[str]) -> Part:
    depth = min(path.replace(".NAME", "").count(".") for path in paths)
    return Part(", ".join(f"`{path}`" for path in paths), _LEVEL + depth, model)


def _walk(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """List all sections below one with their paths."""
    for name, field in model.model_fields.items():
        for suffix, section in _find_sections(field.annotation):
            found = f"{path}.{name}{suffix}".removeprefix(".")
            yield found, section
            yield from _walk(section, found)


def _find_sections(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """List the sections that a value of a type holds, with how each is reached."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "", annotation
    step = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        for suffix, section in _find_sections(argument):
            yield step + suffix, section
