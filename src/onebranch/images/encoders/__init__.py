"""How rows become a file of each format."""
