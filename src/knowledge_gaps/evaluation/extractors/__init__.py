"""Feature extractors, a file each; see `knowledge_gaps.evaluation.registry`."""
