"""Run the command as `python -m streamcore.cli`."""

from streamcore.cli import main

main()
