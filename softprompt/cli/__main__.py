"""`python -m softprompt.cli`: what the command `softprompt` runs."""

from softprompt.cli import main

if __name__ == "__main__":
    main()
