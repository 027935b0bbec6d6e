"""Networks whose features measure image quality."""
