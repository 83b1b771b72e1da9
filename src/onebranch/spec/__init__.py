"""The description of a network as text and frozen values: branch grammar, presets, spec."""
