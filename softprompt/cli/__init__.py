"""`softprompt`: use the tuned prompt, take it elsewhere, compare it with others. `softprompt --help`"""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from softprompt.cli.compare import compare
from softprompt.cli.export import export
from softprompt.cli.generate import chat, generate
from softprompt.cli.hub import wants_network
from softprompt.cli.provenance import provenance
from softprompt.cli.push import push
from softprompt.cli.serve import serve
from softprompt.cli.verify import verify
from softprompt.provenance.versions import VERSION
from softprompt.runtime.guard import exit_on_input_error, set_environment


class _Guarded(TyperGroup):
    """Commands under the guard that stages have; inside typer, which would take Ctrl-C for itself."""

    def invoke(self, ctx: Any) -> Any:
        with exit_on_input_error():
            return super().invoke(ctx)


app = typer.Typer(
    cls=_Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(generate)
app.command()(chat)
app.add_typer(export, name="export")
app.command()(push)
app.command()(compare)
app.command()(serve)
app.command()(provenance)
app.command()(verify)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"softprompt {VERSION}")
        raise typer.Exit


@app.callback()
def common(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Use, export, publish and compare the soft prompts of this repository.

    Works in any folder of it; only push, and adapters at hf://, need a network.
    """


def main() -> None:
    """Run the command line: exit status 0, 1 with one line for bad input, 2 for wrong usage."""
    set_environment(network=wants_network(sys.argv[1:]))
    app(prog_name="softprompt")
