"""Judges pictures and films: measures, evaluations of results and of models, pages that show them.

    measures     the list of measures, and what each is called
    similarity   PSNR, SSIM and MS-SSIM of a pair; vsr.metrics has the papers' luma
    perceptual   LPIPS and DISTS, with weights given by path
    niqe         naturalness without an original
    flow         dense optical flow; temporal: tOF, warping error, deviation where nothing moves
    viewing      files to pictures that measures take, films matched by exact time
    evaluation   pairs of pictures, pairs of films; grid: models × data sets
    gallery      which pictures of an evaluation are kept to be looked at
    tables       the figures as text, CSV and JSON; plots: as SVG; page: as one HTML file
    compare      stills at the same times and where they differ; sheet: drawn side by side

Measures of VMAF and XPSNR are in `vsr.io.quality_filters`.
"""
