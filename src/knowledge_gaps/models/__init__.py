"""Generators, discriminators and GAN-classifiers, each registered by name in one file.

Models take plain arguments: no study, optimiser or Accelerator. `frozen` alone knows files: it
brings stored instances back.
"""
