"""The fixed numbers of the content statistics, shared by all implementations. Nothing depends on the picture."""

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, full range
SCHARR = ((-3.0, 0.0, 3.0), (-10.0, 0.0, 10.0), (-3.0, 0.0, 3.0))  # over 32: a ramp of slope 1 per pixel gives 1
SCHARR_NORM = 32.0
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
BLUR = tuple(n / 64 for n in (1, 6, 15, 20, 15, 6, 1))  # binomial, sigma 1.22 pixels, per axis
RADIUS = 4  # a statistic sees 9x9 pixels: 3x3 stencils, then the 7x7 blur

GREY = 255.0  # logarithms count grey levels of 8 bits, log1p(GREY * x): below one level they fade to zero
LOG_SCALE = 0.25  # brings them to the order of 1: 0 on flat ground, 0.6 to 0.8 on photographs, at most 1.74
TRACE_FLOOR = GREY**-2  # gradient energy of one grey level per pixel: below it a direction counts as noise
COHERENCE_FLOOR = 1e-2  # keeps the fourfold angle differentiable where there is no direction
