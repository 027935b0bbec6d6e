"""Two studies' verdicts side by side, and how far their effects moved."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from findings_tools import Story, choose_claims, make_results, make_study, make_tables

from conftest import RunKgaps
from fabrication import ASSETS
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_json
from knowledge_gaps.findings.changes import Change, ChangeKind, list_changes, read_verdicts, render
from knowledge_gaps.findings.form import make_verdicts
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.statistics.chains import Interval, compute_change

Content = dict[str, Any]


def make_claim(
    id: str,
    verdict: str,
    effect: float | None,
    threshold: float,
    measure: str = "fid",
    has_interval: bool = True,
) -> Content:
    low, high, degrees = None, None, None
    if effect is not None and has_interval:
        low, high, degrees = effect - 0.1, effect + 0.1, 5.0
    study: Content = {"verdict": verdict, "effect": effect, "degrees": degrees}
    study |= {"low": low, "high": high}
    study["effect_words"] = None if effect is None else f"{measure}: mean over 2 cells"
    return {"id": id, "threshold": threshold, "study": study}


def write_verdicts(path: Path, *claims: Content) -> Path:
    path.write_text(json.dumps({"claims": claims}))
    return path


def compare(folder: Path, before: list[Content], after: list[Content]) -> list[Change]:
    paths = write_verdicts(folder / "1.json", *before), write_verdicts(folder / "2.json", *after)
    return list_changes(*map(read_verdicts, paths))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((1.0, 0.7, 1.3), (3.0, 2.6, 3.4), (2.0, 1.5, 2.5)),
        # a fall from 0.9 can be as large as the first's upper and the second's lower end allow
        ((0.9, 0.6, 0.94), (0.5, 0.47, 0.8), (-0.4, -0.45, -0.4 + math.hypot(0.3, 0.3))),
        ((0.5, 0.47, 0.8), (0.9, 0.6, 0.94), (0.4, 0.4 - math.hypot(0.3, 0.3), 0.45)),
        ((1.0, math.nan, math.nan), (3.0, 2.6, 3.4), (2.0, math.nan, math.nan)),
    ],
)
def test_change_takes_the_sides_that_matter(
    before: tuple[float, float, float],
    after: tuple[float, float, float],
    expected: tuple[float, float, float],
) -> None:
    change = compute_change(Interval(*before), Interval(*after))
    assert (change.point, change.low, change.high) == pytest.approx(expected, nan_ok=True)


def test_claims_of_a_study_are_the_same_as_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    study, names = make_study(chains=3), ("1a", "9a-5", "9e", "11")
    results = make_results(study, make_tables(study, Story(lambda *_: 0.3)))
    write_json(tmp_path / "verdicts.json", make_verdicts(results, choose_claims(*names)))
    verdicts = read_verdicts(tmp_path / "verdicts.json")
    assert verdicts["1a"].verdict is Verdict.CONTRADICTED
    assert 0 < verdicts["1a"].effect.low < 0.3 < verdicts["1a"].effect.high
    assert verdicts["1a"].effect.degrees == 2
    changes = list_changes(verdicts, verdicts)
    shown = render(changes)
    assert f"{len(changes)} claims asked: {len(changes)} as before, 0 with another" in shown
    # named on a narrow terminal, too
    assert all(any(line.startswith(f"{id} ") for line in shown.splitlines()) for id in names)
    assert "…" not in shown


@pytest.mark.parametrize(
    ("after", "kind", "shown"),
    [
        (("a", "supported", 0.6, 0.5), ChangeKind.SAME, "supported 0.6 [0.5, 0.7]"),
        (
            ("a", "undecided", 0.55, 0.5),
            ChangeKind.OTHER,
            "undecided 0.55 [0.45, 0.65] -0.15 [-0.291, -0.00858] another verdict",
        ),
        (("a", "void", 0.7, 0.5), ChangeKind.OTHER, "void 0.7 [0.6, 0.8]"),
        (("a", "not asked here", None, 0.6), ChangeKind.ONE_ASKED, "asked in one study only"),
        (("a", "supported", 0.8, 0.6), ChangeKind.OTHER, "threshold 0.5, then 0.6"),
        (("b", "supported", 0.8, 0.5), ChangeKind.ONE_ASKED, "no such claim"),
        (("a", "supported", 0.7, 0.5, "frechet"), ChangeKind.OTHER, "0.8] fid, then frechet"),
    ],
)
def test_kind_and_remark_of_a_change(
    tmp_path: Path, after: tuple[Any, ...], kind: ChangeKind, shown: str
) -> None:
    changes = compare(tmp_path, [make_claim("a", "supported", 0.7, 0.5)], [make_claim(*after)])
    assert {change.kind for change in changes} == {kind}
    *rows, _, count = render(changes).splitlines()
    assert shown in " ".join(" ".join(rows).split())
    assert f"{len(changes)} {kind}" in count


def test_no_interval_where_a_study_has_one_chain(tmp_path: Path) -> None:
    before = [make_claim("a", "undecided", 0.7, 0.5, has_interval=False)]
    after = [make_claim("a", "undecided", 0.8, 0.5)]
    shown = render(compare(tmp_path, before, after))
    assert "undecided 0.7  undecided 0.8 [0.7, 0.9]  +0.1\n" in shown
    assert "[-" not in shown


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"claims": 3},
        {"claims": [make_claim("a", "perhaps", 0.7, 0.5)]},
        {"claims": [make_claim("a", "supported", 0.7, 0.5) | {"threshold": "high"}]},
    ],
)
def test_file_that_holds_no_verdicts(tmp_path: Path, content: Content) -> None:
    path = tmp_path / "1.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not the verdicts of a study"):
        read_verdicts(path)


def test_exit_code_says_whether_verdicts_differ(tmp_path: Path, run_kgaps: RunKgaps) -> None:
    write_verdicts(tmp_path / "1.json", make_claim("a", "supported", 0.7, 0.5))
    write_verdicts(tmp_path / "2.json", make_claim("a", "not asked here", None, 0.5))
    (tmp_path / "params.yaml").write_text((ASSETS / "fabricated.yaml").read_text())
    default = tmp_path / "reports" / "fabricated" / "verdicts.json"
    default.parent.mkdir(parents=True)
    write_verdicts(default, make_claim("a", "undecided", 0.55, 0.5))
    assert run_kgaps(tmp_path, "verdicts", "1.json", "1.json").code == 0
    assert run_kgaps(tmp_path, "verdicts", "1.json", "2.json").code == 0
    assert run_kgaps(tmp_path, "verdicts", "1.json").code == 1
    missing = run_kgaps(tmp_path, "verdicts", "3.json")
    assert missing.code == 2
    assert missing.err == "kgaps: 3.json: cannot be read (No such file or directory)\n"
