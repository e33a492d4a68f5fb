"""The networks that ship inside the package, as safetensors, each with its card beside it.

They are data only; `vsr.models.catalog` lists them and `vsr.checkpoints.ensure` finds them.
"""
