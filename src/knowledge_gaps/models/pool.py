"""Pools on disk: which frozen instances a cohort is trained against, with their weights' hashes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json, write_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_instance_directory, get_pool_file


@dataclass(frozen=True)
class Member:
    """A frozen instance of a pool: "gans/COHORT" or "classifiers/COHORT", and its weights' hash."""

    cohort: str
    chain: int
    instance: int  # its index in the chain
    sha256: str

    def get_directory(self, root: Path) -> Path:
        """Directory of the instance below the repository's root."""
        return get_instance_directory(root, self.cohort, Instance(self.chain, self.instance))


def read_pool(root: Path, name: str) -> tuple[Member, ...]:
    """Read the members of a pool, chain by chain, in order; raises UserError for a bad manifest."""
    path = get_pool_file(root, name)
    manifest = read_json(path)
    try:
        return tuple(Member(**member) for member in manifest["members"])
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not a pool's manifest ({error}); run dvc repro") from error


def write_pool(root: Path, name: str, members: tuple[Member, ...]) -> None:
    """Write a pool's manifest; raises UserError when it cannot be written."""
    manifest = {"format": 2, "pool": name, "members": [asdict(member) for member in members]}
    write_json(get_pool_file(root, name), manifest)
