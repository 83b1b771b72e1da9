"""Comparisons of onebranch with other programs and with the project's goals: `python -m benchmarks --help`.

They run in a checkout with the extras `train` and `dev`, and are not part of the installed package.
"""
