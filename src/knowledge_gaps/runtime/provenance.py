"""Which code and which versions made a result."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

import knowledge_gaps


@cache
def hash_code(entries: tuple[str, ...]) -> str:
    """Hash modules of this package.

    Args:
        entries: files or folders relative to the package, such as "models" or "losses.py".
    """
    package = Path(knowledge_gaps.__file__).parent
    digest = hashlib.sha256()
    for entry in entries:
        path = package / entry
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def get_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of distributions, without those that are not installed."""
    versions = {}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a source tree on a machine's own Python
            continue
    return versions
