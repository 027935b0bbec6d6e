"""To be removed once nothing imports it: the names of `knowledge_gaps.core.tables`."""

from knowledge_gaps.core.tables import *  # noqa: F403
