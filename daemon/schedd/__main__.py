"""`python -m schedd`."""

from schedd.cli import main

if __name__ == "__main__":
    main()
