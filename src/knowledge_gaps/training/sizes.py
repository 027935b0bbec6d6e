"""Sizes of the batches that ranks share; without torch, for the process that starts the ranks."""

from __future__ import annotations

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import ClassifierRecipe, GanRecipe


def count_path_images(recipe: GanRecipe) -> int:
    """Return over how many images the path-length penalty is taken."""
    return max(1, recipe.batch_size // recipe.path_length_shrink)


def check_shares(recipe: GanRecipe | ClassifierRecipe, num_ranks: int) -> None:
    """Check that so many ranks can share the batches of a recipe.

    Raises:
        UserError: names the key, what was found and what is needed.
    """
    batches = {"batch_size": recipe.batch_size}
    if isinstance(recipe, GanRecipe) and recipe.path_length_weight > 0:
        batches["batch_size // path_length_shrink"] = count_path_images(recipe)
    for key, num_images in batches.items():
        if num_images % num_ranks != 0:
            raise UserError(
                f"{key}: {num_images} images found, a multiple of the {num_ranks} processes that "
                "train an instance together is needed"
            )
