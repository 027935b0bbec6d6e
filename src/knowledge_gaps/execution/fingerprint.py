"""The fingerprint of a cohort: the code and versions that decide its trained bytes.

`kgaps check` writes all of them, and dvc.yaml makes each a parameter of its stage.
"""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import make_key, read_json, write_json
from knowledge_gaps.core.fingerprint import get_versions, hash_code
from knowledge_gaps.core.layout import CODE_FINGERPRINTS
from knowledge_gaps.study import Kind, Study
from knowledge_gaps.study.graph import (
    find_recipe,
    get_cohorts,
    list_detected,
    list_members,
)

# what decides the bytes of a trained instance; recipes.py has the defaults of params.yaml's keys
TRAINING_CODE = (
    "core/checkpoint.py",
    "core/determinism.py",
    "core/instance.py",
    "core/seeding.py",
    "data/images.py",
    "data/store.py",
    "losses.py",
    "models",
    "study/recipes.py",
    "training",
)
# likewise what decides the tables, without what only reads them
_EVALUATION_CODE = (
    "analyses",
    "data",
    "evaluation",
    "losses.py",
    "models",
    "readings/cohorts.py",
    "stages",
    "statistics",
    "training",
)
_PREPARATION_CODE = ("data", "evaluation/extractors", "evaluation/lenet.py", "stages/prepare.py")
_VERSIONS = ("numpy", "torch")
_NUM_DIGITS = 12  # of a hash, so that a value is one line of dvc.lock


def compute_fingerprint(study: Study, kind: Kind, name: str) -> str:
    """Return the fingerprint of a cohort, a line: its code's hash, numpy's and torch's versions."""
    pool = list_members(study, get_cohorts(study, kind)[name].pool)
    paths = (f"{kind}/{name}", *(path for path, _ in pool))
    architectures = {find_recipe(study, path).architecture for path in paths}
    code = hash_code(TRAINING_CODE, architectures)[:_NUM_DIGITS]
    parts = {"code": code, **get_versions(_VERSIONS)}
    return ", ".join(f"{key} {value}" for key, value in parts.items())


def write_fingerprints(root: Path, study: Study) -> None:
    """Write models/fingerprints.json; raises UserError when that is not possible."""
    cohorts = {kind.value: list(get_cohorts(study, kind)) for kind in Kind}
    recipes = (*study.gan_recipes.values(), *study.classifier_recipes.values())
    architectures = {recipe.architecture for recipe in recipes}
    trained = {
        kind: {name: compute_fingerprint(study, Kind(kind), name) for name in names}
        for kind, names in cohorts.items()
    }
    # prepare refuses reals that do not fit; judges and controls come later
    prepared_for = study.evaluation.model_dump(exclude={"judges", "controls"})
    hashes = {
        # evaluations have a row for every cohort, so a removed one makes them due
        "evaluation": make_key(hash_code(_EVALUATION_CODE, architectures), cohorts),
        "judges": make_key(study.evaluation.judges, list_detected(study)),
        "prepare": make_key(hash_code(_PREPARATION_CODE), prepared_for),
        "readings": make_key(study.report.model_dump()),
    }
    stages = {name: value[:_NUM_DIGITS] for name, value in hashes.items()}
    write_json(root / CODE_FINGERPRINTS, {**trained, **stages})


def check_fingerprint(root: Path, cohort: str, found: str) -> None:
    """Refuse by UserError to train or publish "KIND/COHORT" by other code than was recorded."""
    path = root / CODE_FINGERPRINTS
    kind, _, name = cohort.partition("/")
    recorded = read_json(path).get(kind, {}).get(name) if path.exists() else found
    if recorded != found:
        raise UserError(
            f"{cohort}: {found} found, {recorded} was recorded when the study was "
            "checked; `kgaps check` records it anew"
        )
