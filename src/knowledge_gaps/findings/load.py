"""Reading findings.yaml."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.findings.schema import Findings
from knowledge_gaps.study.load import read_yaml

FINDINGS_FILE = "findings.yaml"


def load_findings(path: Path) -> Findings:
    """Read the claims and their thresholds.

    Args:
        path: a findings.yaml.

    Raises:
        UserError: one line that names the file, the key, what was found and what is allowed.
    """
    try:
        return Findings.model_validate(read_yaml(path))
    except ValidationError as error:
        raise UserError(f"{path.name}: {describe_first_error(error, Findings)}") from error
