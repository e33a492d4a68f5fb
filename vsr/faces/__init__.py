"""Restoring faces: what is behind `--face-enhance`.

    options, catalog   what a user may say, and the published checkpoints (free of torch)
    retinaface         finds faces; anchors: its geometry
    alignment          brings a face upright into a square, and back
    gfpgan             the network that restores a square
    tracking           landmarks that do not tremble in a video
    enhance            all of it together, on tensors

Frames of any format are the business of `vsr.engine.faces`.
"""
