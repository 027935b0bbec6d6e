"""Params that are edited while a stage runs: its result is refused, other edits are let be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.stages import cohort, samples
from study_tools import change_params


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"gans.fool_all_1.phi": 2.5}, True),
        ({"gan_recipes.dcgan.steps": 7}, True),
        ({"study.seed": 3}, True),
        ({"gans.baseline.instances": 3}, False),
        ({"evaluation.num_images": 20}, False),
    ],
)
def test_own_params_of_a_cohort_may_not_change(
    smoke_root: Path,
    run_kgaps: RunKgaps,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    is_refused: bool,
) -> None:
    monkeypatch.setattr(cohort, "run", lambda *_, **__: change_params(smoke_root, changes))
    outcome = run_kgaps(smoke_root, "gans", "fool_all_1")
    said = "kgaps: params.yaml: changed while gans fool_all_1 ran; run it again\n"
    assert (outcome.code, outcome.err) == ((2, said) if is_refused else (0, ""))


def test_no_param_may_change_while_a_whole_study_is_evaluated(
    smoke_root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit(*_: object) -> None:
        change_params(smoke_root, {"evaluation.num_images": 20})
        (smoke_root / "params.yaml").write_text(f"# a remark\n{params.read_text()}")

    params = smoke_root / "params.yaml"
    monkeypatch.setattr(samples, "run", edit)
    assert "changed while samples ran" in run_kgaps(smoke_root, "samples").err
    assert run_kgaps(smoke_root, "samples").code == 0  # only a remark more
    edit_report = {"report.iterations": []}
    monkeypatch.setattr(samples, "run", lambda *_: change_params(smoke_root, edit_report))
    assert run_kgaps(smoke_root, "samples").code == 0


def test_an_error_of_the_stage_is_the_one_that_is_told(
    smoke_root: Path, run_kgaps: RunKgaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        change_params(smoke_root, {"study.seed": 3})
        raise UserError("the stage's own")

    monkeypatch.setattr(samples, "run", fail)
    assert run_kgaps(smoke_root, "samples").err == "kgaps: the stage's own\n"
