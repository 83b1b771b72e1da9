"""What a network is, as text and frozen values: the branch grammar, the presets, the network's spec."""
