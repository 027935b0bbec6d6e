"""Whether classifiers could use how images are stored."""
