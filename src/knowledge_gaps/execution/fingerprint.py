"""The fingerprint of a cohort: the code and versions that decide its trained bytes.

`kgaps check` writes one file for each cohort, and dvc.yaml makes it a dependency of the cohort's
stage. So an edited training loop, or another torch, makes cohorts due; an added architecture, a
comment or a docstring does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import publish_directory, read_json, write_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import get_code_directory, get_code_file
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import find_recipe, get_cohorts, list_members

# what decides the bytes of a trained instance; recipes.py has the defaults of params.yaml's keys
TRAINING_CODE = (
    "core/checkpoint.py",
    "core/determinism.py",
    "core/seeding.py",
    "data/images.py",
    "data/store.py",
    "losses.py",
    "models",
    "study/recipes.py",
    "training",
)
VERSIONS = ("numpy", "torch")

Fingerprint = dict[str, str]


def compute_fingerprint(study: Study, kind: Kind, name: str) -> Fingerprint:
    """Return the fingerprint of a cohort: "code", a sha256, and the versions of numpy and torch."""
    architectures = set(_list_architectures(study, kind, name))
    return {"code": hash_code(TRAINING_CODE, architectures), **get_versions(VERSIONS)}


def write_fingerprints(root: Path, study: Study) -> None:
    """Write models/code, a file for each cohort; raises UserError when that is not possible."""

    def fill(directory: Path) -> None:
        for kind in Kind:
            for name in get_cohorts(study, kind):
                write_json(
                    directory / kind / f"{name}.json", compute_fingerprint(study, kind, name)
                )

    publish_directory(get_code_directory(root), fill)


def check_fingerprint(root: Path, cohort: str, found: Fingerprint) -> None:
    """Refuse to train, or to publish, by other code or versions than DVC has recorded.

    Args:
        root: the repository's root.
        cohort: as "gans/COHORT" or "classifiers/COHORT".
        found: its present fingerprint.

    Raises:
        UserError: names what differs; nothing where no fingerprint was written yet.
    """
    path = get_code_file(root, cohort)
    if not path.exists():
        return
    recorded = read_json(path)
    for key in recorded.keys() | found.keys():
        if recorded.get(key) != found.get(key):
            raise UserError(
                f"{cohort}: {key} is {found.get(key)}, {recorded.get(key)} was recorded when the "
                "study was checked; `kgaps check` records it anew"
            )


def _list_architectures(study: Study, kind: Kind, name: str) -> Iterator[str]:
    """Yield the architectures of a cohort and of the pool that it is trained against."""
    members = list_members(study, get_cohorts(study, kind)[name].pool)
    for path in (f"{kind}/{name}", *(path for path, _ in members)):
        yield find_recipe(study, path).architecture
