"""Check params.yaml before DVC starts, so that a refused value deletes no output: `python -m softprompt.config`."""

from softprompt.config import load_params
from softprompt.runtime.guard import exit_on_input_error

if __name__ == "__main__":
    with exit_on_input_error():
        load_params()
