"""Architectures of GANs and GAN-classifiers: NAME.py, or a package NAME, registers NAME."""
