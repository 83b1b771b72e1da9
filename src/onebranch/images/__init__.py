"""Pictures as arrays: colour conversion, resizing, and reading and writing files."""
