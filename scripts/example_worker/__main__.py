"""`python -m example_worker`, under whatever name the folder was copied."""

from .worker import main

main()
