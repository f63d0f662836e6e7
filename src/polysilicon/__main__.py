"""`python -m polysilicon`: the command line where its script is not on the path."""

from polysilicon.cli import main

main()
