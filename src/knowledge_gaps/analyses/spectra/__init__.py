"""Power spectra and residuals of images."""
