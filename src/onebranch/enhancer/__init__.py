"""Pictures in, enhanced pictures out: colour, tiles, files. The one path that every caller takes."""
