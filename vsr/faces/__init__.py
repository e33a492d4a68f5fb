"""Restoring faces: GFPGAN's network. See `vsr.faces.gfpgan`."""
