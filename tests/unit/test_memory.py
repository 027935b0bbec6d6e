"""Too little memory is one line that names a batch that fits."""

from __future__ import annotations

import pytest
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training import memory
from knowledge_gaps.training.memory import explain_shortage, halve_until, parse_request
from knowledge_gaps.training.ranks import Ranks
from knowledge_gaps.training.sizes import check_shares

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


def test_shortage_names_a_batch_that_fits() -> None:
    recipe = make_recipe(gradient_accumulation_steps=3)
    with (
        pytest.raises(UserError) as caught,
        explain_shortage(recipe, Ranks(), torch.device("cpu")),
    ):
        raise RuntimeError(CPU_ERROR)
    assert str(caught.value) == (
        "batch_size: 32 images do not fit into the memory of this machine; 16 may by estimation, "
        "with gradient_accumulation_steps: 6 for as many images an update"
    )


def test_shortage_on_a_gpu_is_estimated_by_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * gib)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 15 * gib)

    class Properties:
        total_memory = 16 * gib

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    # 15 + 3 - 2 GiB for 16 images of this rank: 1 GiB each; 0.9 x 16 - 2 = 12.4 of them fit
    message = "CUDA out of memory. Tried to allocate 3.00 GiB. GPU 0 has a total capacity"
    with (
        pytest.raises(UserError, match=r"32 images on 2 processes .* of a GPU; 16 may by est"),
        explain_shortage(make_recipe(), Ranks(2, 0), torch.device("cuda")),
    ):
        raise torch.OutOfMemoryError(message)


def test_no_batch_fits_where_the_model_is_too_large() -> None:
    text = memory.describe_shortage(make_recipe(), 1, None, torch.device("cpu"))
    assert text.endswith("no smaller batch would by estimation: a smaller model is needed")


def test_other_errors_pass() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explain_shortage(make_recipe(), Ranks(), torch.device("cpu")),
    ):
        raise RuntimeError("shapes do not fit")


def test_halves_and_requests() -> None:
    assert [halve_until(24, limit) for limit in (30, 12, 11, 3, 2)] == [12, 12, 6, 3, None]
    assert parse_request("Tried to allocate 1.50 MiB.") == 1.5 * 2**20
    assert parse_request("out of memory") == 0
