"""What a key of params.yaml may hold, and what it holds when left out, in plain words.

A type or a rule that is not known here is an error: the page would else be silent about a limit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Strict
from pydantic.fields import FieldInfo

from knowledge_gaps.study.recipes import Name

NEEDED = "needed"  # stands for the default of a key that has none

_NAME_RULE = get_args(Name)[1]
# what one value is called, and what several are
_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    bool: ("`true` or `false`", "`true` or `false`"),
}
_NAME_NOUNS = ("name", "names")
# by the attribute of the rule that holds the limit
_LIMITS = {
    "ge": "at least",
    "gt": "above",
    "le": "at most",
    "lt": "below",
    "multiple_of": "a multiple of",
}
_LENGTH = "min_length"


class ValueWords:
    """Describes values; a section is a link to where the page describes it.

    Args:
        anchors: where on the page, by class; by `Any` where the sections of architectures begin.
    """

    def __init__(self, anchors: Mapping[Any, str]) -> None:
        self._anchors = anchors

    def describe(self, annotation: Any, rules: Iterable[Any] = (), is_plural: bool = False) -> str:
        """Say which values a type lets in.

        Args:
            annotation: the type.
            rules: pydantic's, beside those that the type brings itself.
            is_plural: several of them are meant.

        Raises:
            TypeError: for a type or a rule that there are no words for.
        """
        origin, arguments, rules = get_origin(annotation), get_args(annotation), _flatten(rules)
        if origin is Annotated:
            return self.describe(arguments[0], [*arguments[1:], *rules], is_plural)
        if origin in (Union, UnionType):
            return self._describe_union(arguments, rules)
        if origin in (list, tuple, dict):
            return self._describe_several(origin, arguments) + _describe_length(rules)
        return self._name(annotation, rules, is_plural) + _describe_limits(rules, is_plural)

    def _describe_union(self, options: Sequence[Any], rules: Sequence[Any]) -> str:
        words = [self.describe(option, rules) for option in options if option is not NoneType]
        return ", or ".join([*words, "`null`"] if NoneType in options else words)

    def _describe_several(self, origin: Any, arguments: Sequence[Any]) -> str:
        if origin is dict and arguments[1] is Any:
            return self._link("section", Any)
        if origin is dict:
            return f"{self.describe(arguments[1], is_plural=True)} by name"
        words = {self.describe(argument, is_plural=True) for argument in arguments}
        if len(words) > 1:
            raise TypeError(f"there are no words for a list of different types: {arguments}")
        number = f"{len(arguments)} " if origin is tuple else ""
        return f"list of {number}{words.pop()}"

    def _name(self, annotation: Any, rules: Sequence[Any], is_plural: bool) -> str:
        if get_origin(annotation) is Literal:
            return _join([f"`{format_value(value)}`" for value in get_args(annotation)])
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self._link("sections" if is_plural else "section", annotation)
        if annotation is str and _NAME_RULE in rules:
            return _NAME_NOUNS[is_plural]
        if annotation not in _NOUNS:
            raise TypeError(f"there are no words for values of type {annotation!r}")
        return _NOUNS[annotation][is_plural]

    def _link(self, text: str, target: Any) -> str:
        return f"[{text}](#{self._anchors[target]})"


def describe_default(field: FieldInfo) -> str:
    """Say what a key is when it is left out, as params.yaml would say it."""
    if field.is_required():
        return NEEDED
    return f"`{format_value(field.get_default(call_default_factory=True))}`"


def format_value(value: Any) -> str:
    """Write a value as YAML reads it, text without quotation marks."""
    return value if isinstance(value, str) else json.dumps(value)


def _flatten(rules: Iterable[Any]) -> list[Any]:
    """List single rules; `Field` holds several."""
    return [
        rule
        for entry in rules
        for rule in (entry.metadata if isinstance(entry, FieldInfo) else [entry])
    ]


def _describe_limits(rules: Sequence[Any], is_plural: bool) -> str:
    words = [word for rule in rules for word in _list_limits(rule)]
    each = "each " if is_plural else ""
    return f", {each}{', '.join(words)}" if words else ""


def _list_limits(rule: Any) -> list[str]:
    # what a function checks is said by the docstring alone; strictness is the same for all keys
    if isinstance(rule, AfterValidator | Strict):
        return []
    words = [f"{word} {getattr(rule, key):,}" for key, word in _LIMITS.items() if _has(rule, key)]
    if not words:
        raise TypeError(f"there are no words for the rule {rule!r}")
    return words


def _describe_length(rules: Sequence[Any]) -> str:
    """Say how many entries a list or a mapping must have."""
    lengths = [rule for rule in rules if not isinstance(rule, Strict)]
    for rule in lengths:
        if not _has(rule, _LENGTH):
            raise TypeError(f"there are no words for the rule {rule!r} of several values")
    return "".join(f"; at least {getattr(rule, _LENGTH)} of them" for rule in lengths)


def _has(rule: Any, attribute: str) -> bool:
    return getattr(rule, attribute, None) is not None


def _join(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
