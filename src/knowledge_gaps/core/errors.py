"""The exceptions that become exit codes; `knowledge_gaps.cli` is the one place that does so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


class UserError(Exception):
    """A fault that the user can mend; the command line prints it and exits 2.

    The message is one line that names the key or file, what was found and what is allowed.
    """


class StoppedError(Exception):
    """The stage was interrupted after it saved its state; the command line exits 130."""


def describe_first_error(error: ValidationError, model: type[BaseModel]) -> str:
    """Put the most telling of pydantic's errors on a model into one line: key, found, allowed."""
    errors = error.errors()
    # an unknown key first: a misspelt key is also a missing one, and its spelling is the cause
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the whole file"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(_find_model(model, first["loc"][:-1]).model_fields)
        message = f"unknown key (allowed: {allowed})"
    elif first["type"] == "missing":
        message = "missing, and has no default"
    elif not isinstance(first["input"], (dict, list)) or first["type"] != "value_error":
        message = f"{message} (found {first['input']!r})"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{key}: {message}{more}"


def _find_model(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Follow a pydantic location to the model that it lies in, past the keys of mappings."""
    for part in location:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_list_models(field.annotation), model)
    return model


def _list_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _list_models(argument)
