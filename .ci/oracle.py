"""Hold what a study produced against what it produced before the code was changed.

    python .ci/oracle.py record NAME ROOT    write .ci/oracle/NAME.json from a study that was run
    python .ci/oracle.py compare NAME ROOT   exit 1, and list, where a study differs from it

With `--rebuild SETTINGS`, ROOT is a folder with the two tables of a study of these settings, such
as reports/mnist_study, and what is rebuilt from them is recorded or compared.

Recorded are the sha256 of weights, samples, tables and JSON, of the pixels of figures, and of the
page's text. Hashes of weights hold on the machine that recorded them, and on others like it.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

DIRECTORY = Path(__file__).parent / "oracle"
WHOLE = (
    "models/*/*/*/*/*.safetensors",
    "models/*/*/*/*/curves.csv",
    "data/samples/*/*/*.npy",
    "data/attributions/*/*.npy",
    "data/spectra/*/*.npy",
    "reports/{study}/*.csv",
    "reports/{study}/*.json",
    "reports/{study}/plots/*.csv",
)


def read_study(root: Path, study: str) -> dict[str, str]:
    """Hash all that a study produced, by path."""
    return dict(_list_hashes(root, study))


def _list_hashes(root: Path, study: str) -> Iterator[tuple[str, str]]:
    for pattern in WHOLE:
        for path in sorted(root.glob(pattern.format(study=study))):
            yield path.relative_to(root).as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(root.glob(f"reports/{study}/figures/*.png")):
        with Image.open(path) as image:
            pixels = np.asarray(image)
        found = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        yield f"{path.relative_to(root).as_posix()} (pixels)", found
    page = root / "reports" / study / "index.html"
    text = read_text(page)
    yield f"{page.relative_to(root)} (text)", hashlib.sha256(text.encode()).hexdigest()


def read_text(page: Path) -> str:
    """Return the words of a page, without markup and styles."""
    content = re.sub(r"<(style|svg)\b.*?</\1>", " ", page.read_text(encoding="utf-8"), flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", content)).split())


def rebuild_reports(tables: Path, settings: Path) -> dict[str, str]:
    """Hash verdicts.json, cohorts.csv and the headline metrics that follow from two tables."""
    # needs the package, which the recorded hashes of a study do not
    from knowledge_gaps.core.files import dump_json
    from knowledge_gaps.core.tables import format_table
    from knowledge_gaps.findings.form import make_verdicts
    from knowledge_gaps.findings.schema import load_findings
    from knowledge_gaps.readings.cells import list_cohorts
    from knowledge_gaps.readings.reading import Results, list_readings
    from knowledge_gaps.readings.tables import read_detections, read_quality
    from knowledge_gaps.report.build import make_headline_metrics
    from knowledge_gaps.study import load_study

    study = load_study(settings)
    findings = load_findings(DIRECTORY.parents[1] / "findings.yaml")
    detections = read_detections(tables / "detections.csv")
    quality = read_quality(tables / "quality.csv")
    results = Results(tables, study, detections, quality, findings.seed)
    # what has no metrics, or tables of its own
    readings = {
        name: each.read(results)
        for name, each in list_readings().items()
        if name not in ("curves", "judges", "perturbations", "controls")
    }
    texts = {
        "verdicts.json": dump_json(make_verdicts(results, findings)),
        "cohorts.csv": format_table(list_cohorts(results.cells)),
        "metrics.json (headline)": dump_json(make_headline_metrics(results, readings)),
    }
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def main() -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("name")
    parser.add_argument("root", type=Path)
    parser.add_argument("--rebuild", type=Path, metavar="SETTINGS")
    arguments = parser.parse_args()
    file = DIRECTORY / f"{arguments.name}.json"
    if arguments.rebuild is None:
        found = read_study(arguments.root, arguments.name)
    else:
        found = rebuild_reports(arguments.root, arguments.rebuild)
    if arguments.action == "record":
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")
        return
    recorded = json.loads(file.read_text())
    names = sorted(recorded.keys() | found.keys())
    differing = [name for name in names if recorded.get(name) != found.get(name)]
    print(f"{arguments.name}: {len(recorded)} recorded, {len(differing)} differ")
    print("\n".join(differing))
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
