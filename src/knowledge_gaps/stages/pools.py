"""pools: write down which frozen instances a pool holds, with the hash of their weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import read_json, write_json
from knowledge_gaps.runtime.layout import META_FILE, get_instance_directory, get_pool_file
from knowledge_gaps.study import Study
from knowledge_gaps.study.graph import need
from knowledge_gaps.training.task import Member, read_members


def run(root: Path, study: Study, name: str) -> None:
    """Write the manifest of a pool: the members of the pool that it extends, then its own.

    Raises:
        UserError: when the pool is unknown, or an instance or the extended manifest is missing.
    """
    need(name, study.pools, "pool", "pools")
    pool = study.pools[name]
    members = list(read_members(root, pool.extends))
    for instance in pool.instances:
        meta_file = get_instance_directory(root, pool.cohort, instance) / META_FILE
        meta = read_json(meta_file)
        try:
            sha256 = meta["files"][meta["weights"]]
        except KeyError as error:
            raise UserError(f"{meta_file}: key {error} is missing") from error
        members.append(Member(pool.cohort, instance, sha256))
    manifest = {"format": 1, "pool": name, "kind": pool.kind.value}
    content = {**manifest, "members": [asdict(member) for member in members]}
    write_json(get_pool_file(root, name), content)
