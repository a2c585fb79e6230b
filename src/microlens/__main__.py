"""``python -m microlens``, and with it torchrun."""

from microlens.cli import main

if __name__ == "__main__":
    main()
