"""Two studies' verdicts side by side, and how far their effects moved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import RunKgaps
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.findings.changes import Outcome, list_changes, read_verdicts, render
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.statistics.changes import Estimate, compute_change
from study_tools import REPOSITORY

REDUCED = REPOSITORY / "reports" / "verdicts.json"
Edit = Callable[[dict[str, Any]], None]


def make_claim(
    id: str,
    verdict: str,
    effect: float | None,
    threshold: float,
    measure: str = "fid",
    fixed: Sequence[str] = (),
) -> dict[str, Any]:
    low, high = (None, None) if effect is None else (effect - 0.1, effect + 0.1)
    said = {"verdict": verdict, "effect": effect, "low": low, "high": high, "fixed": [*fixed]}
    said["effect_words"] = None if effect is None else f"{measure}: mean over 2 cells"
    return {"id": id, "threshold": threshold, "study": said}


def write_verdicts(path: Path, *claims: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"claims": claims}))
    return path


# -------------------------------------------------------------------------------------- statistics


def test_change_of_symmetric_intervals_adds_their_squares() -> None:
    change = compute_change(Estimate(1.0, 0.7, 1.3), Estimate(3.0, 2.6, 3.4))
    assert (change.point, change.low, change.high) == pytest.approx((2.0, 1.5, 2.5))


def test_change_of_skewed_intervals_takes_the_side_that_matters() -> None:
    """A fall from 0.9 can be as large as the first's upper and the second's lower end allow."""
    change = compute_change(Estimate(0.9, 0.6, 0.94), Estimate(0.5, 0.47, 0.8))
    assert change.low == pytest.approx(-0.4 - 0.05)
    assert change.high == pytest.approx(-0.4 + math.hypot(0.3, 0.3))


def test_change_backwards_is_its_negative() -> None:
    before, after = Estimate(0.9, 0.6, 0.94), Estimate(0.5, 0.47, 0.8)
    there, back = compute_change(before, after), compute_change(after, before)
    assert (back.point, back.low, back.high) == pytest.approx(
        (-there.point, -there.high, -there.low)
    )


def test_interval_of_a_change_covers_it() -> None:
    generator = np.random.default_rng(0)
    trials, truth = 4000, (0.3, 0.8)
    held = 0
    for _ in range(trials):
        points = generator.normal(truth, (0.02, 0.05))
        before, after = (
            Estimate(point, point - 1.96 * spread, point + 1.96 * spread)
            for point, spread in zip(points, (0.02, 0.05), strict=True)
        )
        change = compute_change(before, after)
        held += change.low <= truth[1] - truth[0] <= change.high
    assert held / trials == pytest.approx(0.95, abs=0.014)  # four standard errors


def test_no_interval_of_what_has_none() -> None:
    change = compute_change(Estimate(1.0, math.nan, math.nan), Estimate(3.0, 2.6, 3.4))
    assert change.point == 2.0
    assert math.isnan(change.low)
    assert math.isnan(change.high)


# -------------------------------------------------------------------------------------- the table


def test_a_study_is_as_itself() -> None:
    told = read_verdicts(REDUCED)
    changes = list_changes(told, told)
    assert {change.outcome for change in changes} == {Outcome.SAME}
    num_asked = sum(entry.verdict is not Verdict.NOT_ASKED for entry in told.values())
    assert f"{num_asked} claims asked: {num_asked} as before, 0 with another" in render(changes)


@pytest.mark.parametrize(
    ("after", "remark"),
    [
        (("a", "supported", 0.6, 0.5), ""),
        (("a", "undecided", 0.55, 0.5), "another verdict"),
        (("a", "not asked here", None, 0.5), "asked in one study only"),
        (("a", "not asked here", None, 0.6), "asked in one study only"),
        (("a", "supported", 0.8, 0.6), "threshold 0.5, then 0.6"),
        (("b", "supported", 0.8, 0.5), "asked in one study only"),
    ],
)
def test_what_has_changed_is_said(
    tmp_path: Path, after: tuple[str, str, float | None, float], remark: str
) -> None:
    first = write_verdicts(tmp_path / "1.json", make_claim("a", "supported", 0.7, 0.5))
    second = write_verdicts(tmp_path / "2.json", make_claim(*after))
    changes = list_changes(read_verdicts(first), read_verdicts(second))
    outcome = Outcome.SAME if not remark else Outcome.OTHER
    if remark == Outcome.ONE_ASKED:
        outcome = Outcome.ONE_ASKED
    assert {change.outcome for change in changes} == {outcome}
    *rows, _, count = render(changes).splitlines()
    assert all(row.endswith(remark) for row in rows[1:])
    assert any("another verdict" in row for row in rows) == (remark == "another verdict")
    assert f"{len(changes)} {outcome}" in count


def test_claims_are_counted_apart(tmp_path: Path) -> None:
    """One that a study could not be asked is no other verdict: the studies do not disagree."""
    before = [make_claim(id, "supported", 0.7, 0.5) for id in "abcd"]
    after = [
        make_claim("a", "supported", 0.7, 0.5),
        make_claim("b", "undecided", 0.55, 0.5),
        make_claim("c", "not asked here", None, 0.5),
        make_claim("e", "supported", 0.7, 0.5),
    ]
    paths = [
        write_verdicts(tmp_path / f"{k}.json", *claims) for k, claims in enumerate((before, after))
    ]
    changes = list_changes(*map(read_verdicts, paths))
    assert render(changes).splitlines()[-1] == (
        "5 claims asked: 1 as before, 1 with another verdict, threshold or measure, "
        "3 asked in one study only"
    )
    assert "\n1 claim asked: 1 as before, 0 with" in render(changes[:1])


def test_claim_that_neither_study_could_be_asked_is_left_out(tmp_path: Path) -> None:
    claims = [make_claim("a", "supported", 0.7, 0.5), make_claim("b", "not asked here", None, 0.5)]
    told = read_verdicts(write_verdicts(tmp_path / "1.json", *claims))
    assert [change.id for change in list_changes(told, told)] == ["a"]


def test_effect_and_its_interval_are_shown(tmp_path: Path) -> None:
    first = write_verdicts(tmp_path / "1.json", make_claim("a", "supported", 0.7, 0.5))
    second = write_verdicts(tmp_path / "2.json", make_claim("a", "undecided", 0.55, 0.5))
    shown = render(list_changes(read_verdicts(first), read_verdicts(second)))
    assert "supported 0.7 [0.6, 0.8]" in shown
    assert "undecided 0.55 [0.45, 0.65]" in shown
    assert "-0.15 [-0.291, -0.00858]" in shown


def test_no_interval_where_a_cohort_is_held_fixed(tmp_path: Path) -> None:
    """Both studies trained other instances of it, which neither interval covers."""
    claims = [
        make_claim("a", "supported", effect, 0.5, fixed=["gans/baseline"]) for effect in (0.7, 0.8)
    ]
    paths = [write_verdicts(tmp_path / f"{k}.json", claim) for k, claim in enumerate(claims)]
    shown = render(list_changes(*map(read_verdicts, paths)))
    assert "+0.1 (gans/baseline fixed)" in shown
    assert "[-" not in shown


def test_other_measures_have_no_difference(tmp_path: Path) -> None:
    claims = [make_claim("a", "supported", 3.0, 0.5, measure) for measure in ("fid", "frechet")]
    paths = [write_verdicts(tmp_path / f"{k}.json", claim) for k, claim in enumerate(claims)]
    [change] = list_changes(*map(read_verdicts, paths))
    assert change.outcome is Outcome.OTHER
    assert "fid, then frechet" in render([change])
    assert "+0" not in render([change])


def test_claims_are_named_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    told = read_verdicts(REDUCED)
    shown = render(list_changes(told, told))
    assert all(any(line.startswith(f"{id} ") for line in shown.splitlines()) for id in ("1a", "11"))
    assert "…" not in shown


def spoil_verdict(content: dict[str, Any]) -> None:
    content["claims"][0]["study"]["verdict"] = "perhaps"


def spoil_effect(content: dict[str, Any]) -> None:
    content["claims"][0]["study"]["effect"] = "much"


def drop_claims(content: dict[str, Any]) -> None:
    del content["claims"]


def make_claims_a_number(content: dict[str, Any]) -> None:
    content["claims"] = 3


@pytest.mark.parametrize("edit", [spoil_verdict, spoil_effect, drop_claims, make_claims_a_number])
def test_file_that_holds_no_verdicts(tmp_path: Path, edit: Edit) -> None:
    path = write_verdicts(tmp_path / "1.json", make_claim("a", "supported", 0.7, 0.5))
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not the verdicts of a study"):
        read_verdicts(path)


def test_exit_code_says_whether_the_findings_are_the_same(
    tmp_path: Path, run_kgaps: RunKgaps
) -> None:
    first = write_verdicts(tmp_path / "1.json", make_claim("a", "supported", 0.7, 0.5))
    second = write_verdicts(tmp_path / "2.json", make_claim("a", "undecided", 0.55, 0.5))
    assert run_kgaps(tmp_path, "verdicts", str(first), str(first)).code == 0
    assert run_kgaps(tmp_path, "verdicts", str(first), str(second)).code == 1
    (tmp_path / "reports").mkdir()
    second.rename(tmp_path / "reports" / "verdicts.json")
    assert run_kgaps(tmp_path, "verdicts", "1.json").code == 1
    write_verdicts(tmp_path / "2.json", make_claim("a", "not asked here", None, 0.5))
    assert run_kgaps(tmp_path, "verdicts", "1.json", "2.json").code == 0
    assert run_kgaps(tmp_path, "verdicts", "2.json", "1.json").code == 0
    missing = run_kgaps(tmp_path, "verdicts", "3.json")
    assert missing.code == 2
    assert missing.err == "kgaps: 3.json: cannot be read (No such file or directory)\n"
