"""What the report says of audit.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge_gaps.analyses.audit.reading import Audit, read
from knowledge_gaps.core.errors import UserError

HEADER = (
    "check,subject,fault,instance,steps,num_images,detection_rate,real_accuracy,auc,"
    "p_value,p_holm,num_defects,verdict\n"
)
REPLAYS = """\
replay,cnn,none,0,600,2000,0.41,0.59,0.4976,0.79,1.0,,pass
replay,cnn,none,1,600,2000,0.54,0.48,0.5038,0.67,1.0,,pass
"""
CONTROLS = """\
control,cnn,one_level,0,600,2000,1.00,1.00,1.0000,0.0,,,found
control,cnn,jpeg,0,600,2000,0.94,0.99,0.9929,0.0,,,found
"""
EXACT = """\
round_trip,train,none,,,20000,,,,,,0,pass
round_trip,test,none,,,4000,,,,,,0,pass
sample_files,samples,none,,,112000,,,,,,0,pass
"""


def read_rows(tmp_path: Path, *parts: str) -> Audit:
    path = tmp_path / "reports" / "audit.csv"
    path.parent.mkdir()
    path.write_text(HEADER + "".join(parts), encoding="utf-8")
    return read(tmp_path)


def test_audit_that_passed(tmp_path: Path) -> None:
    audit = read_rows(tmp_path, REPLAYS, CONTROLS, EXACT)
    assert audit.passed
    assert audit.has_power
    assert (len(audit.rows), audit.rows[1].auc, audit.rows[1].instance) == (7, 0.5038, 1)
    assert audit.statement == (  # 0.526: 0.5 + 2.807 / sqrt(6 * 2000)
        "Reals that went the generated images' way look like other reals to 2 of 2 classifiers "
        "(area under the ROC curve 0.498 to 0.504; beyond 0.474 to 0.526 it would fail), and "
        "24,000 images came back unchanged; every known fault was found (2 tried, area at least "
        "0.993)."
    )


@pytest.mark.parametrize(
    ("row", "part"),
    [
        (
            "replay,cnn,none,2,600,2000,0.6,0.6,0.61,1e-9,0.0,,fail\n",
            "classifier cnn/2 tells replayed reals from other reals (area under the ROC curve "
            "0.610, adjusted p below 1e-06)",
        ),
        (
            "round_trip,levels,none,,,256,,,,,,1200,fail\n",
            "1,200 bytes of the images 'levels' came back changed",
        ),
        (
            "sample_files,samples,none,,,9,,,,,,3,fail\n",
            "3 sample files are stored in another way than the reals",
        ),
    ],
)
def test_audit_that_failed_says_where(tmp_path: Path, row: str, part: str) -> None:
    audit = read_rows(tmp_path, REPLAYS, CONTROLS, EXACT, row)
    assert not audit.passed
    assert audit.has_power
    assert audit.statement.startswith("The shortcut audit failed, so detection rates may measure")
    assert part in audit.statement
    assert audit.statement.count(";") == 0  # one thing failed


@pytest.mark.parametrize(
    ("controls", "words"),
    [
        (
            CONTROLS + "control,vit,jpeg,0,600,2000,0.5,0.5,0.51,0.4,,,not_found\n",
            "known faults were not found (jpeg by vit), so one could have been missed.",
        ),
        ("", "no known fault was tried."),
    ],
)
def test_control_that_was_not_found_fails_nothing_but_is_told(
    tmp_path: Path, controls: str, words: str
) -> None:
    audit = read_rows(tmp_path, REPLAYS, controls, EXACT)
    assert audit.passed
    assert not audit.has_power
    assert audit.statement.endswith(words)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (CONTROLS, "no row of check 'replay'"),
        (REPLAYS.replace("0.5038", "1.5"), "column 'auc', line 3: found '1.5'"),
        (REPLAYS + CONTROLS.replace("found", "seen"), "'verdict', line 4: found 'seen', one of"),
        (REPLAYS + CONTROLS.replace("control", "test"), "'check', line 4: found 'test', one of"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rows(tmp_path, rows)
