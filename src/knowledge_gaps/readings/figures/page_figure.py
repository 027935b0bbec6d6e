"""A drawn figure with its words, as the page shows it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from knowledge_gaps.core.layout import (
    DETECTIONS_FILE,
    QUALITY_FILE,
    TEST_IMAGES,
    get_prepared_directory,
    get_reports_directory,
)
from knowledge_gaps.readings.figures.style import render_png, render_svg

# as the page names them, from the repository's root
REALS_SOURCE = (get_prepared_directory(Path()) / TEST_IMAGES).as_posix()
DETECTIONS_SOURCE = (get_reports_directory(Path()) / DETECTIONS_FILE).as_posix()
QUALITY_SOURCE = (get_reports_directory(Path()) / QUALITY_FILE).as_posix()


@dataclass(frozen=True)
class PageFigure:
    """A drawn figure with its words.

    Attributes:
        name: file name without suffix.
        png: the file's bytes.
        svg: the same as vectors; None for pictures, which are made of pixels.
        alt: what somebody who cannot see it should know.
        caption: what is shown, and how it was measured.
        source: files and rows that it is made of.
    """

    name: str
    png: bytes
    svg: bytes | None
    alt: str
    caption: str
    source: str

    @property
    def shows_detection(self) -> bool:
        """Whether its numbers are detection rates, which the shortcut audit bears on."""
        return DETECTIONS_SOURCE in self.source

    @property
    def data_uri(self) -> str:
        """The PNG as the src of an img element."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def make_chart(name: str, figure: Figure, alt: str, caption: str, source: str) -> PageFigure:
    """Render a figure of lines and text, in pixels and as vectors."""
    return PageFigure(name, render_png(figure), render_svg(figure), alt, caption, source)


def make_picture(name: str, figure: Figure, alt: str, caption: str, source: str) -> PageFigure:
    """Render a figure that is made of images."""
    return PageFigure(name, render_png(figure), None, alt, caption, source)
