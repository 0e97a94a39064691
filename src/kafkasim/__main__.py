"""``python -m kafkasim``: the command line."""

from kafkasim.cli import main

main()
