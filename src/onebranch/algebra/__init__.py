"""The algebra of convolutions: a convolution as a value, its laws, and the slow definition that they obey."""
