"""``python -m sanarestore`` is the same program as ``sanarestore``."""

from sanarestore.cli import main

if __name__ == "__main__":
    main()
