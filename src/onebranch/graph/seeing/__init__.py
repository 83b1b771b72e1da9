"""What a graph sees without its numbers: axes, sizes, reach; and so its scale and halo."""
