"""`python -m onebranch`: the same as the command `onebranch`."""

from onebranch.cli import main

main()
