"""Displays draw on a terminal and say lines elsewhere; a block that fails is not told as done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from knowledge_gaps.sweeps.show import StageShow

from knowledge_gaps.core.progress import InstanceProgress


def test_without_a_terminal_a_good_end_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with InstanceProgress("gans/a", 2, 9) as progress:
        progress.report(1, 9, None)
    assert capsys.readouterr().out == "gans/a: steps 0 9 of 9, 0 s\n"
    with pytest.raises(ValueError, match="x"), InstanceProgress("gans/a", 2, 9):
        raise ValueError("x")
    assert capsys.readouterr().out == ""


def test_on_a_terminal_it_is_drawn_and_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with InstanceProgress("gans/a", 1, 9) as progress:
        progress.report(0, 9, None)
    assert "gans/a/0" in capsys.readouterr().out
    with StageShow(tmp_path) as show:
        drawing = show._drawing
        assert drawing is not None
        assert drawing.is_started
    assert not drawing.is_started
