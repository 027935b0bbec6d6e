"""How alike the classifiers of one cohort are."""
