"""The table at the end of a sweep: experiments, values, states, and the metrics that differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.text import Text

from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.sweeps.grid import Experiment
from knowledge_gaps.sweeps.queue import METRICS_PATH, Standing

SHOWN_METRICS = 6


def draw_sweep(grid: Sequence[Experiment], standings: Mapping[str, Standing]) -> str:
    """Draw the table, and below it a line where it does not show all metrics that differ."""
    keys = list(grid[0].values)
    found = [standings[point.name].metrics for point in grid]
    differing = find_differing(found, keys)
    metrics = differing[:SHOWN_METRICS]
    table = make_table()
    table.add_column("experiment", no_wrap=True)  # to be copied into `dvc exp apply`
    for head in (*keys, "state", *metrics):
        table.add_column(Text(head), overflow="fold")
    for point in grid:
        standing = standings[point.name]
        values = [json.dumps(point.values[key]) for key in keys]
        shown = [f"{standing.metrics[m]:.4g}" if m in standing.metrics else "" for m in metrics]
        table.add_row(*map(Text, [point.name, *values, str(standing.state), *shown]))
    note = explain_metrics(sum(map(bool, found)), len(differing))
    return "\n\n".join(filter(None, [draw_table(table), note]))


def find_differing(found: Sequence[Mapping[str, float]], keys: Sequence[str]) -> list[str]:
    """Find the metrics that are not the same in all experiments.

    Args:
        found: metrics of each experiment; an empty one has none yet and is not compared.
        keys: what the sweep is along; a metric that only repeats such a value is left out.
    """
    compared = [metrics for metrics in found if metrics]
    names = dict.fromkeys(name for metrics in compared for name in metrics)
    repeated = tuple(f".{'.'.join(key.split('.')[-2:])}" for key in keys)
    return [
        name
        for name in names
        if len({metrics.get(name) for metrics in compared}) > 1 and not name.endswith(repeated)
    ]


def explain_metrics(num_compared: int, num_differing: int) -> str:
    """Say why the table shows no metric, or how many more there are; empty where it shows all.

    Args:
        num_compared: experiments that have metrics.
        num_differing: metrics in which they differ.
    """
    if num_compared == 0:
        return ""
    if num_compared == 1:
        return "no metric to compare: one experiment alone has metrics"
    if num_differing == 0:
        return (
            f"no metric of {METRICS_PATH} differs; cohorts that no section of `report` names have "
            "none there"
        )
    num_more = num_differing - SHOWN_METRICS
    if num_more <= 0:
        return ""
    differ = "differs" if num_more == 1 else "differ"
    return (
        f"{count_words(num_more, 'more metric')} {differ}: "
        "`dvc exp show --only-changed` shows all of them"
    )
