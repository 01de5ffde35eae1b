"""``python -m floatfmt`` is ``floatfmt``."""

from .cli import main

if __name__ == "__main__":
    main()
