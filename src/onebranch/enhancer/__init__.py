"""Enhancement of pictures, files and folders: rows through networks, colour conversion, tiles, batches."""
