"""Where frames come from and where they go: the only package that knows FFmpeg (PyAV)."""
