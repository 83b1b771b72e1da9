"""Receptive-field and shape analysis of graphs: symbolic shapes, scale, halo and minimum sizes."""
