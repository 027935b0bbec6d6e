"""Recipes as tables for the page: every setting of a training, the defaults among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from knowledge_gaps.readings.formats import NOTHING
from knowledge_gaps.study import TrainingSettings


def make_recipe_table(recipes: Mapping[str, TrainingSettings]) -> dict[str, list[str]]:
    """List every setting of some recipes; one that a recipe does not have is a dash.

    Args:
        recipes: by name, in the order of the columns.

    Returns:
        By key of the setting, nested keys joined by dots: its value in each recipe.
    """
    columns = [dict(_list_settings(recipe.model_dump())) for recipe in recipes.values()]
    keys = dict.fromkeys(key for column in columns for key in column)
    return {key: [column.get(key, NOTHING) for column in columns] for key in keys}


def _list_settings(section: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _list_settings(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _format_setting(value)


def _format_setting(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_format_setting(item) for item in value)
    return "the architecture's defaults" if value == {} else str(value).removesuffix(".0")
