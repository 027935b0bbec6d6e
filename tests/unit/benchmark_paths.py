"""Lets tests import the scripts of benchmarks/; behind all else, for one has a library's name."""

from __future__ import annotations

import sys

from study_tools import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"
sys.path.append(str(FOLDER))
