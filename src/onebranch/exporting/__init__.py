"""Export for other programs: every file is run and compared before it is written."""
