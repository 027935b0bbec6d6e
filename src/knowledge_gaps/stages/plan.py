"""plan: print what the study costs on this machine, before it is run; writes no result."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.files import dump_json
from knowledge_gaps.planning.plan import draw_plan, make_plan
from knowledge_gaps.study import Study


def run(root: Path, study: Study, with_timing: bool, as_json: bool) -> None:
    """Print the plan; raises as `make_plan`.

    Args:
        root: the repository's root.
        study: the present one.
        with_timing: time some steps of every distinct training in this process.
        as_json: print JSON instead of tables.
    """
    configure_process()
    plan = make_plan(root, study, with_timing)
    print(dump_json(plan) if as_json else draw_plan(plan))
