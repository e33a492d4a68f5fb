"""What can be learned; each task knows its networks and its losses.

restore      a high-resolution picture from a low one
contrast     the same, told by a learned representation of the degradation (DASR)
translate    a damaged picture from a clean one, from pairs (pix2pix)
cycle        the same without pairs (CycleGAN)
noise        what damage adds to a picture
"""
