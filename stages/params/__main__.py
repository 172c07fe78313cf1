"""Check params.yaml before DVC starts, so that a refused value deletes no output: `python -m stages.params`."""

from stages.params import load_params
from stages.workspace.guard import exit_on_input_error

if __name__ == "__main__":
    with exit_on_input_error():
        load_params()
