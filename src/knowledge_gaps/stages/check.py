"""check: refuse a study that cannot run before anything runs.

Its output is the pool without instances, which every pool extends and every baseline stands on: so
all stages wait for this one, and none runs again because of it, for its bytes never change.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from knowledge_gaps.models.registry import (
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.pool import write_pool
from knowledge_gaps.study import NO_POOL, Study


def run(root: Path, study: Study) -> None:
    """Check the recipes' architectures; names, types and ranges were checked on reading.

    Raises:
        UserError: names the key of params.yaml, what was found and what is allowed.
    """
    for name, gan_recipe in study.gan_recipes.items():
        with _name_key(f"gan_recipes.{name}"):
            parse_settings(gan_architectures.get(gan_recipe.architecture), gan_recipe.model)
    for name, classifier_recipe in study.classifier_recipes.items():
        with _name_key(f"classifier_recipes.{name}"):
            architecture = classifier_architectures.get(classifier_recipe.architecture)
            parse_settings(architecture, classifier_recipe.model)
    write_pool(root, NO_POOL, ())


@contextmanager
def _name_key(key: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"params.yaml: {key}: {error}") from error
