"""Generators, discriminators and GAN-classifiers, and what they are made of.

`architectures` holds one file for each, which registers it by name in `registry`. Models take plain
arguments: no study, optimiser or Accelerator. `frozen` alone knows files: it brings stored
instances back.
"""
