"""Generators that turn pictures into other pictures of the same size, or make noise.

    unet         pix2pix's U-Net
    resnet       CycleGAN's residual network
    noise        DCGAN-like noise patches, and noise that depends on the picture
    pool         the replay buffer of made pictures
    translator   the network of a file, as a function on pictures in [0, 1]

Learned degradations are such networks: trained from clean to damaged pictures, they damage others.
"""
