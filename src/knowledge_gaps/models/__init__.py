"""Generators, discriminators and GAN-classifiers, each registered by name in one file.

Models take plain arguments: no study, optimiser, Accelerator, file or device.
"""
