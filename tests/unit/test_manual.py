"""docs/params.md is what the code renders, and how docstrings and types become its tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import AfterValidator, BaseModel, Field

from knowledge_gaps.manual.meanings import read_entries, read_meanings, read_summary
from knowledge_gaps.manual.page import (
    COMMAND,
    list_architectures,
    list_sections,
    make_anchor,
    render_page,
    render_part,
    render_table,
)
from knowledge_gaps.manual.values import ValueWords, describe_default
from knowledge_gaps.models.registry import classifier_architectures, gan_architectures
from knowledge_gaps.study import Study
from knowledge_gaps.study.recipes import NAME, Name
from study_tools import REPOSITORY

PAGE = REPOSITORY / "docs" / "params.md"
WORDS = ValueWords({Any: "any"})


# --- the page


def test_page_is_what_the_code_renders() -> None:
    is_same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == render_page()
    assert is_same, f"docs/params.md is out of date; this writes it: {COMMAND}"


def test_command_prints_the_page_without_a_study(tmp_path: Path, run_kgaps: Any) -> None:
    outcome = run_kgaps(tmp_path, "settings", "describe")
    assert (outcome.code, outcome.out) == (0, render_page())
    assert f"kgaps settings describe > {PAGE.relative_to(REPOSITORY)}" == COMMAND


def test_every_link_on_the_page_leads_somewhere() -> None:
    page = render_page()
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    anchors = [make_anchor(heading) for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(anchors)
    assert (PAGE.parent / "study.md").is_file()


def list_paths(content: Any, path: str, named: Sequence[str]) -> set[str]:
    """List the paths of all sections in a params.yaml as the page's headings write them."""
    if isinstance(content, list):
        return set().union(*(list_paths(entry, f"{path}[]", named) for entry in content))
    if not isinstance(content, dict) or path.endswith(".model"):
        return set()
    if path in named:
        return set().union(
            *(list_paths(entry, f"{path}.NAME", named) for entry in content.values())
        )
    below = (list_paths(entry, f"{path}.{key}", named) for key, entry in content.items())
    return {path.removeprefix(".")}.union(*below)


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "settings").glob("*.yaml")), ids=lambda p: p.stem
)
def test_sections_of_every_study_have_a_heading(file: Path) -> None:
    named = [
        f".{name}" for name, field in Study.model_fields.items() if "dict" in str(field.annotation)
    ]
    paths = list_paths(yaml.safe_load(file.read_text(encoding="utf-8")), "", named)
    headings = ", ".join(part.heading for part in list_sections(Study))
    assert [path for path in paths if path and f"`{path}`" not in headings] == []
    assert "gan_recipes.NAME.generator_optimizer" in paths


def test_every_architecture_has_its_settings_on_the_page() -> None:
    headings = " ".join(part.heading for part in list_architectures())
    for name in (*gan_architectures.list_names(), *classifier_architectures.list_names()):
        assert f"`{name}`" in headings, name


def test_names_are_as_the_page_says() -> None:
    assert NAME.fullmatch("a" * 64)
    assert not NAME.fullmatch("a" * 65)


# --- meanings


class Documented(BaseModel):
    """First line,
    and its end.

    A second paragraph.

    Attributes:
        plain: short.
        long: begins here: with a colon,
            goes on `there`

            and ends.

    Raises:
        nothing: at all.
    """

    plain: int
    long: str = "a | b"


class Inheriting(Documented):
    """More.

    Attributes:
        more: of its own.
        plain: said anew.
    """

    more: bool = False


class Silent(Documented):
    pass


def test_summary_ends_where_the_keys_begin() -> None:
    assert read_summary(Documented) == "First line, and its end. A second paragraph."


def test_entries_run_over_lines_up_to_the_next_heading() -> None:
    assert read_entries(Documented) == {
        "plain": "short.",
        "long": "begins here: with a colon, goes on `there` and ends.",
    }


def test_inherited_keys_come_first_with_the_nearest_entry() -> None:
    meanings = read_meanings(Inheriting)
    assert list(meanings) == ["plain", "long", "more"]
    assert meanings["plain"] == "said anew."
    assert meanings["long"] == read_meanings(Documented)["long"]


def test_class_without_docstring_has_what_it_inherits_and_no_summary() -> None:
    assert read_summary(Silent) == ""
    assert read_entries(Silent) == {}
    assert read_meanings(Silent) == read_meanings(Documented)


def make_documented(docstring: str) -> type[BaseModel]:
    """Make a class of two keys, `one` and `two`."""
    return type(
        "Made",
        (BaseModel,),
        {
            "__doc__": docstring,
            "__module__": __name__,
            "__annotations__": {"one": int, "two": int},
        },
    )


@pytest.mark.parametrize(
    ("docstring", "fault"),
    [
        ("No keys.", "Made.one is not explained"),
        ("Some.\n\nAttributes:\n    one: 1.\n", "Made.two is not explained"),
        ("Three.\n\nAttributes:\n    one: 1.\n    two: 2.\n    three: 3.", "Made.three is no key"),
        ("Empty.\n\nAttributes:\n    one: 1.\n    two:", "'    two:'"),
        ("Twice.\n\nAttributes:\n    one: 1.\n    one: 2.", "'    one: 2.'"),
        ("Loose.\n\nAttributes:\n    some words\n    one: 1.", "'    some words'"),
        ("Deep.\n\nAttributes:\n        one: 1.", "'        one: 1.'"),
        ("No heading of its own: Attributes:\n    one: 1.", "Made.one is not explained"),
    ],
)
def test_key_without_a_clear_entry_is_refused(docstring: str, fault: str) -> None:
    model = make_documented(docstring)
    with pytest.raises(ValueError, match=re.escape(fault)):
        render_table(model, WORDS)


# --- values


class Inner(BaseModel):
    """Inside."""


class Values(BaseModel):
    name: Name
    names: list[Name]
    text: str
    flag: bool
    whole: int
    limited: Annotated[float, Field(gt=0, le=1)]
    assigned: int = Field(ge=1, multiple_of=2)
    large: Annotated[int, Field(le=10_000)]
    checked: Annotated[int, Field(ge=3), AfterValidator(abs)]
    optional: Annotated[int, Field(ge=4)] | None
    optional_by_rule: int | None = Field(ge=4)
    several: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    pair: tuple[Annotated[float, Field(lt=1)], Annotated[float, Field(lt=1)]]
    one_word: Literal["a"]
    words: Literal["a", "b", "c"]
    numbers: Literal[1, 3] | None
    inner: Inner
    inner_or_none: Inner | None
    inners: list[Inner]
    by_name: Annotated[dict[Name, Inner], Field(min_length=1)]
    open: dict[str, Any]


@pytest.mark.parametrize(
    ("key", "words"),
    {
        "name": "name",
        "names": "list of names",
        "text": "text",
        "flag": "`true` or `false`",
        "whole": "whole number",
        "limited": "number, above 0, at most 1",
        "assigned": "whole number, at least 1, a multiple of 2",
        "large": "whole number, at most 10,000",
        "checked": "whole number, at least 3",
        "optional": "whole number, at least 4, or `null`",
        "optional_by_rule": "whole number, at least 4, or `null`",
        "several": "list of whole numbers, each at least 0; at least 1 of them",
        "pair": "list of 2 numbers, each below 1",
        "one_word": "`a`",
        "words": "`a`, `b` or `c`",
        "numbers": "`1` or `3`, or `null`",
        "inner": "[section](#inside)",
        "inner_or_none": "[section](#inside), or `null`",
        "inners": "list of [sections](#inside)",
        "by_name": "[sections](#inside) by name; at least 1 of them",
        "open": "[section](#any)",
    }.items(),
)
def test_values_in_words(key: str, words: str) -> None:
    field = Values.model_fields[key]
    described = ValueWords({Inner: "inside", Any: "any"}).describe(field.annotation, field.metadata)
    assert described == words


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        Any,
        tuple[int, str],
        Annotated[str, Field(pattern="a+")],
        Annotated[str, Field(min_length=1)],
        Annotated[list[int], Field(max_length=3)],
    ],
)
def test_type_or_rule_without_words_is_refused(annotation: Any) -> None:
    with pytest.raises(TypeError, match="no words"):
        WORDS.describe(annotation)


class Defaults(BaseModel):
    needed: int
    nothing: int | None = None
    flag: bool = False
    number: float = 0.0
    text: str = "no"
    pair: tuple[float, float] = (0.9, 0.999)
    made: list[str] = Field(default_factory=list)
    mapping: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("key", "words"),
    {
        "needed": "needed",
        "nothing": "`null`",
        "flag": "`false`",
        "number": "`0.0`",
        "text": "`no`",
        "pair": "`[0.9, 0.999]`",
        "made": "`[]`",
        "mapping": "`{}`",
    }.items(),
)
def test_defaults_are_written_as_in_params(key: str, words: str) -> None:
    assert describe_default(Defaults.model_fields[key]) == words


# --- tables and sections


def test_table_has_a_row_for_each_key_and_escapes_the_columns_sign() -> None:
    _, _, *rows = render_table(Documented, WORDS).splitlines()
    assert rows == [
        "| `plain` | whole number | needed | short. |",
        r"| `long` | text | `a \| b` | begins here: with a colon, goes on `there` and ends. |",
    ]


class Leaf(BaseModel):
    """A leaf.

    Attributes:
        size: its size.
    """

    size: int


class Branch(BaseModel):
    """A branch.

    Attributes:
        leaf: its own.
    """

    leaf: Leaf | None


class Tree(BaseModel):
    branches: Annotated[dict[Name, Branch], Field(min_length=1)]
    leaves: list[Leaf]
    crown: Branch
    height: int


def test_sections_with_the_same_keys_share_one() -> None:
    found = [(part.heading, part.level, part.model) for part in list_sections(Tree)]
    assert found == [
        ("`branches.NAME`, `crown`", 2, Branch),
        ("`branches.NAME.leaf`, `leaves[]`, `crown.leaf`", 2, Leaf),
    ]


def test_part_begins_with_its_heading_and_summary() -> None:
    _, leaf = list_sections(Tree)
    lines = render_part(leaf, WORDS).splitlines()
    assert lines[:4] == [f"## {leaf.heading}", "", "A leaf.", ""]
    assert leaf.anchor == "branchesnameleaf-leaves-crownleaf"
