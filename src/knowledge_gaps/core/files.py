"""Files that are whole or absent: hashing, JSON, atomic writes, directories of results.

All are written to a temporary name and renamed. No torch here: see `core.checkpoint`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError


def hash_file(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits; raises UserError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def dump_json(value: Any) -> str:
    """Render a value as JSON whose bytes depend on the value alone."""
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises UserError when the file cannot be read, or as `parse_json`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    return parse_json(content, str(path))


def parse_json(content: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object in UTF-8; raises UserError with the file's name when it is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{name}: holds a {type(value).__name__}, a JSON object is needed")
    return value


def make_key(*parts: Any) -> str:
    """Hash JSON-able parts into a key."""
    return hashlib.sha256(dump_json(list(parts)).encode()).hexdigest()


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path, renamed to `path` when the block succeeds; UserError if that fails."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> str:
    """Write a file atomically and durably; return its sha256. Raises as `replace_atomically`."""
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def write_text(path: Path, text: str) -> str:
    """Write a text file atomically as UTF-8; return its sha256. Raises as `replace_atomically`."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> str:
    """Write a value as JSON atomically; return the sha256. Raises as `replace_atomically`."""
    return write_text(path, dump_json(value))


def link_files(source: Path, target: Path) -> None:
    """Make a directory with the files of another one, as hard links where the disk has them."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        try:
            os.link(path, target / path.name)
        except OSError:  # of another file system, or one without hard links
            shutil.copyfile(path, target / path.name)


def publish_directory(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a temporary directory and rename it to `target`; raises as `replace_atomically`."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process of the same id
        temporary.mkdir(parents=True)
        fill(temporary)
        if target.exists():
            shutil.rmtree(target)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
