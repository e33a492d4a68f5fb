"""Networks that tell real pictures from made ones; they give logits, no probabilities.

vgg      one number for a picture of a fixed size: ESRGAN's, VGG-style
srgan    the same, SRGAN's own
patch    one number for every 70×70 patch: pix2pix and CycleGAN
unet     one number for every pixel, with spectral normalisation: Real-ESRGAN and BSRGAN
"""
