"""What a network is trained towards.

pixel       L1, L2, Charbonnier; weighted total variation
gan         vanilla, least squares, hinge, Wasserstein; plain and relativistic; the penalty
perceptual  distances between the features of a VGG whose weights lie in a file
random      the same between features of fixed random filters, which need no file
contrast    InfoNCE against a queue, for representations of degradations (DASR)
"""
