"""Which instances train together in one process; no torch unless it may come to that.

By itself that is chosen on GPUs only, where there are more instances than GPUs, or than ranks that
they are spread over. The environment variable KGAPS_BATCHED decides otherwise: 1 asks for it
wherever it is supported, also on a CPU (for tests: it gains nothing there), 0 keeps off it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from itertools import pairwise

from knowledge_gaps.runtime.devices import count_gpus, count_workers
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.study import ClassifierRecipe, GanRecipe
from knowledge_gaps.training.assignment import Assignment, Group

BATCHED_VARIABLE = "KGAPS_BATCHED"


def form_groups(assignments: Sequence[Assignment]) -> list[Group]:
    """Split the instances of a cohort into groups, each of which one process trains together.

    Args:
        assignments: of one cohort, at least one.

    Returns:
        One group a GPU (or worker), or a group of one for every instance.

    Raises:
        UserError: when KGAPS_BATCHED is neither 0 nor 1.
    """
    num_instances = len(assignments)
    if not (_is_wanted(num_instances) and is_supported(assignments[0].task.recipe)):
        return [(entry,) for entry in assignments]
    num_groups = count_workers(num_instances)
    edges = [index * num_instances // num_groups for index in range(num_groups + 1)]
    return [tuple(assignments[start:stop]) for start, stop in pairwise(edges)]


def choose_share(assignments: Sequence[Assignment], num_ranks: int) -> int:
    """Return how many instances of a cohort a rank trains together: 1, or its even share of them.

    Args:
        assignments: all of one cohort, so that every rank comes to the same number.
        num_ranks: among which they are spread.

    Raises:
        UserError: when KGAPS_BATCHED is neither 0 nor 1.
    """
    num_instances = len(assignments)
    is_together = _is_wanted(num_instances, num_ranks) and is_supported(assignments[0].task.recipe)
    return math.ceil(num_instances / num_ranks) if is_together else 1


def is_supported(recipe: GanRecipe | ClassifierRecipe) -> bool:
    """Tell whether the batched program can follow a recipe.

    It has no loss scaler, no accumulation of gradients and no path-length penalty, and it trains
    GANs of architectures that say they can be batched; all others train alone.
    """
    if not isinstance(recipe, GanRecipe):
        return False
    is_plain = (
        recipe.mixed_precision != "fp16"
        and recipe.gradient_accumulation_steps == 1
        and recipe.path_length_weight == 0
    )
    if not is_plain:
        return False
    from knowledge_gaps.models.registry import gan_architectures

    return gan_architectures.get(recipe.architecture).is_batchable


def _is_wanted(num_instances: int, num_ranks: int | None = None) -> bool:
    chosen = os.environ.get(BATCHED_VARIABLE)
    if chosen not in (None, "0", "1"):
        raise UserError(f"{BATCHED_VARIABLE}: {chosen!r} found, '0' or '1' is needed")
    if num_instances == 1 or chosen == "0":
        return False
    if chosen == "1":
        return True
    num_gpus = count_gpus()
    return num_gpus > 0 and num_instances > (num_ranks or num_gpus)
