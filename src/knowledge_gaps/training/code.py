"""The code that trains a cohort: the loops and their tools, and the architectures in play.

`check` notes it for every cohort, and dvc.yaml lets a cohort depend on the note. So an architecture
that is added or changed trains nothing again that does without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import publish_directory, read_json, write_json
from knowledge_gaps.runtime.layout import get_code_directory, get_code_file
from knowledge_gaps.runtime.provenance import describe_code, list_deciding
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_members

_BESIDES = ("study.recipes",)  # its defaults count where params.yaml is silent


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


def write_training_code(root: Path, study: Study) -> None:
    """Note the code of all cohorts, a file for each."""

    def fill(directory: Path) -> None:
        for kind in Kind:
            for name in get_cohorts(study, kind):
                described = describe_training_code(study, kind, name)
                write_json(directory / kind / f"{name}.json", described)

    publish_directory(get_code_directory(root), fill)


def find_changed_code(root: Path, study: Study, kind: Kind, name: str) -> list[str]:
    """List the modules of a cohort's training that differ from what was noted, by path below src/.

    Empty where nothing was noted: DVC then asks for it.
    """
    path = get_code_file(root, f"{kind}/{name}")
    if not path.exists():
        return []
    noted, present = read_json(path), describe_training_code(study, kind, name)
    return sorted(key for key in noted | present if noted.get(key) != present.get(key))


def check_code(root: Path, study: Study, kind: Kind, name: str) -> None:
    """Refuse to train by other code than the study was checked with.

    DVC would record the result as that of the code that was noted.

    Raises:
        UserError: names the first module that changed.
    """
    changed = find_changed_code(root, study, kind, name)
    if changed:
        raise UserError(
            f"src/{changed[0]}: changed since the study was checked; run `dvc repro` again"
        )


def _list_architectures(study: Study, kind: Kind, name: str) -> Iterator[str]:
    """Yield the architectures of a cohort and of the pool that it is trained against."""
    members = list_members(study, get_cohorts(study, kind)[name].pool)
    for path in dict.fromkeys((f"{kind}/{name}", *(path for path, _ in members))):
        yield find_recipe(study, path).architecture
