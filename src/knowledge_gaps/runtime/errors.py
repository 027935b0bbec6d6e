"""The exceptions that become exit codes; `knowledge_gaps.cli` is the one place that does so."""

from __future__ import annotations

from pydantic import ValidationError


class UserError(Exception):
    """Something that the user can mend: bad parameter, bad file, full disk.

    The message is one line that names the key or file, what was found and what is allowed.
    The command line prints it and exits 2.
    """


class StoppedError(Exception):
    """The stage was interrupted after it saved its state; the command line exits 130."""


def describe_first_error(error: ValidationError) -> str:
    """Put the first of pydantic's errors into one line: key, what was found, what is allowed."""
    first, num_errors = error.errors()[0], error.error_count()
    key = ".".join(str(part) for part in first["loc"] if part != "[key]") or "the whole file"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
    elif first["type"] == "missing":
        message = "missing, and has no default"
    elif not isinstance(first["input"], (dict, list)) or first["type"] != "value_error":
        message = f"{message} (found {first['input']!r})"
    more = f" (and {num_errors - 1} more)" if num_errors > 1 else ""
    return f"{key}: {message}{more}"
