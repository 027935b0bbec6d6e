"""Judges, a file each; see `knowledge_gaps.evaluation.judging`."""
