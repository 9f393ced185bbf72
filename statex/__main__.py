"""`python -m statex`."""

from statex.cli import main

main()
