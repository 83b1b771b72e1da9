"""Models written for other programs, each run there and compared before it is written."""
