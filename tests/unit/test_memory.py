"""Too little memory is one line that names a batch that fits."""

from __future__ import annotations

import pytest
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.instance import explain_shortage
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.task import check_shares

ADAM = OptimizerSettings(learning_rate=1e-3)


def make_recipe(**recipe: object) -> GanRecipe:
    settings = {"architecture": "stylegan2", "steps": 4, "batch_size": 32, **recipe}
    return GanRecipe.model_validate(
        {"generator_optimizer": ADAM, "discriminator_optimizer": ADAM, **settings}
    )


def test_ranks_share_every_batch_evenly() -> None:
    recipe = make_recipe(path_length_weight=2.0, path_length_shrink=8)  # batches of 32 and 4
    check_shares(recipe, 4)
    with pytest.raises(UserError, match=r"batch_size // path_length_shrink: 4 images .* 8 proc"):
        check_shares(recipe, 8)
    with pytest.raises(UserError, match="batch_size: 32 images found, a multiple of the 3"):
        check_shares(make_recipe(), 3)


CPU_ERROR = (
    "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    ("error", "recipe", "size", "words"),
    [
        (
            RuntimeError(CPU_ERROR),
            {"gradient_accumulation_steps": 3},
            1,
            r"^batch_size: 32 images do not fit into the memory of this machine; "
            r"try 16 with gradient_accumulation_steps: 6, which are as many images an update$",
        ),
        (torch.OutOfMemoryError("CUDA"), {}, 2, "32 images on 2 processes .* of a GPU; try 16"),
        (torch.OutOfMemoryError("CUDA"), {"batch_size": 2}, 2, "a smaller model is needed$"),
        (torch.OutOfMemoryError("CUDA"), {"batch_size": 31}, 1, "a smaller model is needed$"),
    ],
)
def test_shortage_is_one_line(
    error: RuntimeError, recipe: dict[str, object], size: int, words: str
) -> None:
    device = torch.device("cuda" if isinstance(error, torch.OutOfMemoryError) else "cpu")
    with (
        pytest.raises(UserError, match=words),
        explain_shortage(make_recipe(**recipe), Ranks(size, 0), device),
    ):
        raise error


def test_other_errors_pass() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explain_shortage(make_recipe(), Ranks(), torch.device("cpu")),
    ):
        raise RuntimeError("shapes do not fit")
