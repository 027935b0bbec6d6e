"""Analyses of images and classifiers: a folder each."""
