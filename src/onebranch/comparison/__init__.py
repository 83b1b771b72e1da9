"""Comparison of two pictures: measurements (PSNR, SSIM, differences) and drawings side by side."""
