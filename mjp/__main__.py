"""Run the command `mjp` as `python -m mjp`."""

from mjp.cli import main

if __name__ == "__main__":
    main()
