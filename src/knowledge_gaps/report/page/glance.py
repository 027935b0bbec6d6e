"""The report's first table: the paper's questions, what a study reads, what the paper found.

No verdicts: a reading is put beside the paper's words, and the reader judges. A question that the
study makes no reading for is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from knowledge_gaps.report.formats import format_number, format_phi, format_range, format_summary
from knowledge_gaps.report.readings.collected import Readings
from knowledge_gaps.report.readings.tables import CLASS_ENTROPY, FID, IterationTable


@dataclass(frozen=True)
class GlanceRow:
    """One question.

    Attributes:
        question: in plain words.
        here: what this study reads, in lines.
        paper: what the paper found, with its setting.
    """

    question: str
    here: tuple[str, ...]
    paper: str


def make_glance(readings: Readings) -> tuple[GlanceRow, ...]:
    """Put the main readings beside the paper's findings."""
    rows = [*_ask_generalisation(readings)]
    if readings.held_out is not None and readings.in_loss is not None:
        rows += [*_ask_fooling(readings.held_out, readings.in_loss)]
        rows += [*_ask_triangles(readings.held_out)]
        rows.append(_ask_fid(readings, readings.held_out))
    rows += [*_ask_phi(readings)]
    if readings.memoryless is not None:
        rows += [*_ask_memoryless(readings.memoryless)]
    return tuple(rows)


def _ask_generalisation(readings: Readings) -> Iterator[GlanceRow]:
    if readings.generalisation:
        yield GlanceRow(
            "Are generators detected that a classifier was not trained on?",
            tuple(
                f"trained on {row.num_generators}: {format_summary(row.held_out, 3)}"
                for row in readings.generalisation
            ),
            "DCGAN on MNIST: well from one generator, almost perfectly from more than one. "
            "StyleGAN2 on FFHQ needs several.",
        )


def _ask_fooling(held_out: IterationTable, in_loss: IterationTable) -> Iterator[GlanceRow]:
    if len(held_out.gans) < 2 or 0 not in held_out.row_iterations:
        return
    key = (held_out.classifiers[held_out.row_iterations.index(0)], held_out.gans[1])
    yield GlanceRow(
        "Does fooling one classifier fool the held-out ones of its cohort?",
        (
            f"detected by held-out ones: {format_summary(held_out.cells[key].detection)}",
            f"by the one in the loss: {format_summary(in_loss.cells[key].detection)}",
        ),
        "DCGAN on MNIST: no, even at high phi. StyleGAN2 on FFHQ: yes, held-out ResNet-50 "
        "0.03 ± 0.00.",
    )


def _ask_triangles(table: IterationTable) -> Iterator[GlanceRow]:
    means: dict[str, list[float]] = {"same": [], "later": [], "earlier": []}
    for row, classifiers in zip(table.row_iterations, table.classifiers, strict=True):
        for column, gans in enumerate(table.gans):
            place = "same" if column == row else "later" if column > row else "earlier"
            summary = table.cells[classifiers, gans].detection
            if summary.num > 0:
                means[place].append(summary.mean)
    asked = (
        ("same", "Do classifiers detect the iteration that they were trained on?", "0.86 to 1.00"),
        ("later", "Do classifiers detect generators of later iterations?", "0.01 to 0.06"),
        ("earlier", "Do classifiers detect generators of earlier iterations?", "0.00 to 0.87"),
    )
    for place, question, paper in asked:
        if means[place]:
            here = f"{format_range(means[place])} (means of {len(means[place])} cells)"
            yield GlanceRow(question, (here,), f"StyleGAN2 on FFHQ: {paper}.")


def _ask_fid(readings: Readings, table: IterationTable) -> GlanceRow:
    return GlanceRow(
        f"What does it cost in image quality ({readings.metric_names[FID]})?",
        tuple(
            f"iteration {number}: {format_summary(table.fid[cohort])}"
            for number, cohort in enumerate(table.gans)
        ),
        "DCGAN on MNIST: held-out classifiers are not fooled without compromising quality. "
        "StyleGAN2 on FFHQ: FID 36.39 to 36.98, no change.",
    )


def _ask_phi(readings: Readings) -> Iterator[GlanceRow]:
    swept = [row for row in readings.phi_sweep if row.phi > 0]
    if len(swept) < 2:
        return
    entropies = (row.quality[CLASS_ENTROPY].mean for row in swept)
    yield GlanceRow(
        f"What does a rising phi do ({', '.join(format_phi(row.phi) for row in swept)})?",
        (
            f"class entropy (nats): {_list_numbers(entropies)}",
            f"detection: {_list_numbers(row.held_out.mean for row in swept)}",
            f"its std over pairs: {_list_numbers(row.held_out.std for row in swept)}",
        ),
        "DCGAN on MNIST: output collapses (nearly all ones from phi 10⁰, broken at 10⁵) and the "
        "variance of held-out detection grows.",
    )


def _ask_memoryless(table: IterationTable) -> Iterator[GlanceRow]:
    for column, gans in enumerate(table.gans):
        rows = dict(zip(table.row_iterations, table.classifiers, strict=True))
        if column - 2 in rows and column - 1 in rows:
            last, before = (
                format_summary(table.cells[rows[column - back], gans].detection) for back in (1, 2)
            )
            yield GlanceRow(
                f"Memoryless: who detects generators of iteration {column}?",
                (
                    f"by classifiers of iteration {column - 1}: {last}",
                    f"by classifiers of iteration {column - 2}: {before}",
                ),
                "StyleGAN2 on FFHQ: fools the iteration before, detected by the one before that.",
            )


def _list_numbers(values: Iterable[float]) -> str:
    return ", ".join(format_number(value) for value in values)
