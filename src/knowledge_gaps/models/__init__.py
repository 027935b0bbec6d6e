"""Generators, discriminators and GAN-classifiers; `architectures` has a file for each."""
