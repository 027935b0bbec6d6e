"""pools: write down which frozen instances a pool holds, with the hash of their weights."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import META_FILE, get_instance_directory
from knowledge_gaps.models.pool import Member, read_pool, write_pool
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import need


def run(root: Path, study: Study, name: str) -> None:
    """Write the manifest of a pool: the extended pool's members, then its own; or UserError."""
    need(name, study.pools, "pool", "pools")
    pool = study.pools[name]
    extended = read_pool(root, pool.extends)
    members = []
    for chain in range(study.study.chains):
        members += [member for member in extended if member.chain == chain]
        for index in pool.instances:
            path = get_instance_directory(root, pool.cohort, Instance(chain, index)) / META_FILE
            meta = read_json(path)
            try:
                members.append(Member(pool.cohort, chain, index, meta["files"][meta["weights"]]))
            except KeyError as error:
                raise UserError(f"{path}: key {error} is missing") from error
    write_pool(root, name, tuple(members))
