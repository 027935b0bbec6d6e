"""The code that trains a cohort: the loops and their tools, and the architectures in play.

`check` notes it for every cohort, and dvc.yaml lets a cohort depend on the note. So an architecture
that is added or changed trains nothing again that does without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from knowledge_gaps.runtime.code_graph import PACKAGE, SOURCE
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import dump_json, publish_directory, read_json, write_json
from knowledge_gaps.runtime.layout import get_code_directory, get_code_file
from knowledge_gaps.runtime.provenance import describe_code, hash_source, list_deciding
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_members

# the file format decides the bits of what is stored, and the recipes' defaults count where
# params.yaml is silent
_BESIDES = ("runtime.checkpoint", "study.recipes")


def describe_training_code(study: Study, kind: Kind, name: str) -> dict[str, str]:
    """Hash the modules that train a cohort.

    Args:
        study: the study.
        kind: of the cohort.
        name: of the cohort.

    Returns:
        By path below src/, the sha256 of a module's code without comments and docstrings.
    """
    architectures = dict.fromkeys(_list_architectures(study, kind, name))
    return describe_code(list_deciding(f"stages.{kind}", architectures, _BESIDES))


def hash_note(code: Mapping[str, str]) -> str:
    """Return the MD5 that DVC would find of a note."""
    return hashlib.md5(dump_json({**code}).encode(), usedforsecurity=False).hexdigest()


def write_training_code(root: Path, study: Study) -> None:
    """Note the code of all cohorts, a file for each.

    Raises:
        UserError: when the repository holds other code than runs; names the module.
    """
    notes = {
        (kind, name): describe_training_code(study, kind, name)
        for kind in Kind
        for name in get_cohorts(study, kind)
    }
    _check_source(root, {file: note[file] for note in notes.values() for file in note})

    def fill(directory: Path) -> None:
        for (kind, name), described in notes.items():
            write_json(directory / kind / f"{name}.json", described)

    publish_directory(get_code_directory(root), fill)


def find_changed_code(root: Path, cohort: str, code: Mapping[str, str]) -> list[str]:
    """List the modules that are not as they were noted, by path below src/.

    Args:
        root: the repository's root.
        cohort: as "gans/COHORT" or "classifiers/COHORT".
        code: of `describe_training_code`.

    Returns:
        Nothing where nothing is noted: DVC does not train then. All where the note is damaged.
    """
    path = get_code_file(root, cohort)
    if not path.exists():
        return []
    try:
        noted = read_json(path)
    except UserError:
        noted = {}
    return sorted(key for key in noted | {**code} if noted.get(key) != code.get(key))


def check_code(root: Path, cohort: str, code: Mapping[str, str], *, is_trained: bool) -> None:
    """Refuse a training by other code than is noted, as whose result DVC would record it.

    Args:
        root, cohort, code: as in `find_changed_code`.
        is_trained: the training is over; else it is about to begin.

    Raises:
        UserError: names the first module that differs.
    """
    changed = find_changed_code(root, cohort, code)
    if changed and is_trained:
        raise UserError(
            f"src/{changed[0]}: noted anew by `kgaps check` while {cohort} was trained; run it "
            "again, or bring the code back and check again: what was trained is kept for that"
        )
    if changed:
        raise UserError(
            f"src/{changed[0]}: not the code that was noted when the study was checked; `kgaps "
            "check` notes it anew"
        )


def _check_source(root: Path, described: Mapping[str, str]) -> None:
    """Refuse a repository whose code is not the one that trains, though its stages depend on it.

    A queued experiment has a folder of its own, and runs the installed package.
    """
    if (root / "src").resolve() == SOURCE or not (root / "src" / PACKAGE).is_dir():
        return
    for file, digest in described.items():
        other = root / "src" / file
        if not other.is_file() or hash_source(other.read_text(encoding="utf-8")) != digest:
            raise UserError(
                f"src/{file}: differs from the installed package's, which runs; bring both in line"
            )


def _list_architectures(study: Study, kind: Kind, name: str) -> Iterator[str]:
    """Yield the architectures of a cohort and of the pool that it is trained against."""
    members = list_members(study, get_cohorts(study, kind)[name].pool)
    for path in dict.fromkeys((f"{kind}/{name}", *(path for path, _ in members))):
        yield find_recipe(study, path).architecture
