"""Perturbations of stored images, a file a family; see `knowledge_gaps.evaluation.perturbing`."""
