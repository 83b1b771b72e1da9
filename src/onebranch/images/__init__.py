"""Pictures: as arrays and rows, their colours and sizes, and reading and writing their files."""
