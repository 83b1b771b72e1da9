"""Enhancement of pictures, files and folders: row pipelines, colour conversion, tiles and batches."""
