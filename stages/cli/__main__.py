"""`python -m stages.cli`: what the command `prompt-tuning` runs."""

from stages.cli import main

if __name__ == "__main__":
    main()
