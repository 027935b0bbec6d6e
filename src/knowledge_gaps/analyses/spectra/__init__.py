"""Images by frequency, and their residuals."""
