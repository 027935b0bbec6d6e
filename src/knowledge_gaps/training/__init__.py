"""What decides the bytes of a trained instance; read `gan` and `classifier` for a step."""
