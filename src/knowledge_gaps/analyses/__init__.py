"""What was measured on images and classifiers beside detection and quality, a folder each."""
