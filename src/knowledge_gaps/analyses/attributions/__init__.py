"""Which pixels move the logits of GAN-classifiers."""
