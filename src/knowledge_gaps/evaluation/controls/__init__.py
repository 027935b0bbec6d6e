"""Controls that train nothing, a file each; see `knowledge_gaps.evaluation.controlling`."""
