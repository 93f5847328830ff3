"""Run the command line: ``python -m ssgan.cli``."""

from ssgan.cli.app import main

if __name__ == "__main__":
    main()
