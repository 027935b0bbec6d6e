"""The plan: what the settings say, how steps become hours, and how it is printed."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_json
from knowledge_gaps.core.printing import count_words
from knowledge_gaps.planning import timing
from knowledge_gaps.planning.plan import (
    _format,
    count_steps_left,
    draw_plan,
    estimate_seconds,
    find_reals,
    make_plan,
)
from knowledge_gaps.study import DataSettings, Study, load_study
from study_tools import REPOSITORY, SMOKE_FILE

SHAPE = (1, 28, 28)


def with_data(**data: Any) -> Study:
    settings = DataSettings.model_validate({"directory": "x", **data})
    return load_study(SMOKE_FILE).model_copy(update={"data": settings})


def test_a_cohort_follows_its_pool(tmp_path: Path) -> None:
    left = count_steps_left(tmp_path, load_study(REPOSITORY / "settings" / "mnist_reduced.yaml"))
    order = list(left)
    assert len(order) == 20
    assert order.index("classifiers/iteration_1") < order.index("gans/fool_all_2")
    assert left["gans/fool_all_2"] == [2000] * 4


FACES = {"name": "ffhq", "source": "images", "resolution_px": 64, "channels": 3, "num_test": 10}


@pytest.mark.parametrize(
    ("data", "shape", "count"),
    [
        ({"name": "mnist", "source": "idx"}, SHAPE, 70_000),
        ({"name": "mnist", "source": "idx", "num_test": 7}, SHAPE, 60_007),
        ({"name": "mnist", "source": "reduced"}, SHAPE, None),
        (FACES, (3, 64, 64), None),
    ],
)
def test_settings_tell_the_size_of_the_reals(
    tmp_path: Path, data: dict[str, Any], shape: Any, count: int | None
) -> None:
    assert find_reals(tmp_path, with_data(**data)) == (shape, count)


def test_prepared_reals_tell_their_size(tmp_path: Path) -> None:
    described = {"name": "own", "image_shape": [3, 32, 32], "num_train": 5, "num_test": 2}
    write_json(tmp_path / "data" / "prepared" / "dataset.json", described)
    assert find_reals(tmp_path, with_data(name="own", source="idx")) == ((3, 32, 32), 7)
    # prepared at 32 px, the settings ask for 64
    assert find_reals(tmp_path, with_data(**{**FACES, "name": "own"})) == ((3, 64, 64), None)
    with pytest.raises(UserError, match=r"data\.name: 'other' found.*dvc repro prepare"):
        find_reals(tmp_path, with_data(name="other", source="idx"))


@pytest.mark.parametrize(
    ("intervals", "kinds"),
    [([1], {0: 1}), ([1, 16, 4], {0: 1, 1: 12, 4: 3}), ([1, 2, 3], {0: 1, 1: 2, 2: 2, 3: 1})],
)
def test_kinds_of_steps(intervals: list[int], kinds: dict[int, int]) -> None:
    assert timing.list_step_kinds(intervals) == kinds


class Trainer:
    """Stands in for a trainer whose R1 takes 32 s and whose path length takes 8 s."""

    class accelerator:  # noqa: N801
        device = torch.device("cpu")

    def run_step(self, step: int) -> float:
        return 1.0 + 32 * (step % 16 == 0) + 8 * (step % 4 == 0)


def test_lazy_phases_count_by_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def time_call(run: Any, device: torch.device) -> float:
        calls.append(run())
        return calls[-1]

    monkeypatch.setattr(timing, "time_call", time_call)
    kinds = timing.list_step_kinds([1, 16, 4])
    assert timing.time_steps(Trainer(), kinds) == 1 + 32 / 16 + 8 / 4  # type: ignore[arg-type]
    assert len(calls) == 3  # a round of 51 s is not repeated


def test_a_step_that_cannot_run_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_study(SMOKE_FILE).gan_recipes["dcgan"]
    monkeypatch.setenv("KGAPS_DEVICE", "cpu")
    half = recipe.model_copy(update={"mixed_precision": "fp16"})
    assert "fp16" in str(timing.time_training(half, [], SHAPE))


@pytest.mark.parametrize(
    ("steps", "expected"), [((), 0), ((10, 10, 10), 20), ((7, 3, 4), 7), ((5,), 5)]
)
def test_a_free_worker_takes_the_next_training(
    monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...], expected: int
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "2")
    assert estimate_seconds(steps, 0.5) == expected / 2
    assert estimate_seconds(steps, None) == (None if steps else 0)


@pytest.mark.parametrize(
    ("count", "text"), [(78_125, "78,125"), (30_370_060, "30.4 M"), (123_456_789, "123 M")]
)
def test_counts_are_short(count: int, text: str) -> None:
    assert _format(count) == text


def test_one_thing_is_in_the_singular() -> None:
    assert [count_words(count, "pair") for count in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]
    assert count_words(2, "set of images", "sets of images") == "2 sets of images"


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_terminal_cuts_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    study = load_study(REPOSITORY / "settings" / "mnist_reduced.yaml")
    plan = make_plan(tmp_path, study, with_timing=False)
    for row in plan["cohorts"]:
        row |= {"seconds_per_step": 0.0123, "seconds_left": 3600 * 1234.0}
    expected = set(draw_plan(plan).split())
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "25")  # without both, a dumb terminal has 80 columns
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    drawn = draw_plan(plan)
    print(drawn)  # UnicodeEncodeError if there were a sign that this terminal does not have
    assert expected <= set(drawn.split())
    if width >= 80:
        assert max(map(len, drawn.splitlines())) <= width
