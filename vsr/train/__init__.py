"""Training: a recipe in, a checkpoint out that `vsr upscale --model-path` takes.

    recipe, settings, strict   what a run is, read from TOML to the last key
    loop, stages, updates      the run, a stage of it, an update of some weights
    tasks                      what is learned: restoring, translating, noise
    losses, criteria           towards what
    discriminators             against whom
    translators                networks that damage pictures
    networks                   the network of a recipe, and its checkpoint
    optimisers, muon, average  how weights move
    data, degrade, feed        samples, and their order
    peers                      several processes
    state, records             what a run leaves: from which it goes on, and for people

Importing this package, `recipe`, `settings` and `strict` does not import torch.
"""
