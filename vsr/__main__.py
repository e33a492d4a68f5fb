"""`python -m vsr`: the same as the `vsr` program."""

from vsr.cli.main import main

if __name__ == "__main__":
    main()
