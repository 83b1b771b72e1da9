"""Two pictures compared: measured (PSNR, SSIM, differences) and drawn side by side."""
