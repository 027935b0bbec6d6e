"""What the report says of audit.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabrication import AUDIT, write
from knowledge_gaps.analyses.audit.reading import Audit, read
from knowledge_gaps.core.errors import UserError

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
PASSED = (  # 0.526: 0.5 + 2.807 / sqrt(6 * 2000)
    "Reals that went the generated images' way look like other reals to 2 of 2 classifiers "
    "(area under the ROC curve 0.498 to 0.504; beyond 0.474 to 0.526 it would fail), and "
    "24,000 images came back unchanged; "
)
FAILED = (
    "The shortcut audit failed, so detection rates may measure how images are stored instead of "
    "what they show: "
)


def read_rows(root: Path, rows: str) -> Audit:
    header = AUDIT.splitlines(keepends=True)[0]
    write(root / "reports" / "audit.csv", header + rows)
    return read(root / "reports")


@pytest.mark.parametrize(
    ("rows", "has_power", "statement"),
    [
        (CONTROLS, True, f"{PASSED}every known fault was found (2 tried, area at least 0.993)."),
        (
            f"{CONTROLS}control,vit,jpeg,0,600,2000,0.5,0.5,0.51,0.4,,,not_found\n",
            False,
            f"{PASSED}known faults were not found (jpeg by vit), so one could have been missed.",
        ),
        ("", False, f"{PASSED}no known fault was tried."),
        (
            f"{CONTROLS}replay,cnn,none,2,600,2000,0.6,0.6,0.61,1e-9,0.0,,fail\n",
            True,
            f"{FAILED}classifier cnn/2 tells replayed reals from other reals (area under the ROC "
            "curve 0.610, adjusted p below 1e-06).",
        ),
        (
            f"{CONTROLS}round_trip,levels,none,,,256,,,,,,1200,fail\n",
            True,
            f"{FAILED}1,200 bytes of the images 'levels' came back changed.",
        ),
        (
            f"{CONTROLS}sample_files,samples,none,,,9,,,,,,3,fail\n",
            True,
            f"{FAILED}3 sample files are stored in another way than the reals.",
        ),
    ],
)
def test_statement_says_what_passed_and_what_failed(
    tmp_path: Path, rows: str, has_power: bool, statement: str
) -> None:
    audit = read_rows(tmp_path, REPLAYS + EXACT + rows)
    assert (audit.rows[1].auc, audit.rows[1].instance) == (0.5038, 1)
    assert audit.statement == statement
    assert audit.has_power == has_power
    assert audit.passed == statement.startswith(PASSED)


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
