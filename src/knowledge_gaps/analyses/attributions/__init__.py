"""Which pixels classifiers use."""
