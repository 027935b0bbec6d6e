"""Recipes as tables for the page: every setting of a training, the defaults among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.study import TrainingSettings

NOT_SET = "none"  # a setting whose value is null
DEFAULTS = "the architecture's defaults"  # an empty section


@dataclass(frozen=True)
class RecipeTable:
    """Settings (rows) of recipes (columns).

    Attributes:
        names: of the recipes.
        rows: key of a setting, nested keys joined by dots, and its value in each recipe.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def make_recipe_table(recipes: Mapping[str, TrainingSettings]) -> RecipeTable:
    """List every setting of some recipes; one that a recipe does not have is a dash.

    Args:
        recipes: by name, in the order of the columns.
    """
    columns = [dict(_list_settings(recipe.model_dump())) for recipe in recipes.values()]
    keys = dict.fromkeys(key for column in columns for key in column)
    return RecipeTable(
        names=tuple(recipes),
        rows=tuple((key, tuple(column.get(key, NOTHING) for column in columns)) for key in keys),
    )


def _list_settings(section: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _list_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _format_setting(value)


def _format_setting(value: object) -> str:
    if value is None:
        return NOT_SET
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_format_setting(item) for item in value)
    return DEFAULTS if value == {} else str(value).removesuffix(".0")
