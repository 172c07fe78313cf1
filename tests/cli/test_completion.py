"""What the shell completes, as bash asks for it: commands and options of both names, importing no heavy library."""

import subprocess

import pytest

from tests.clones import environment

# What --install-completion writes, with the line that docs/install.md adds for the other name.
INSTALLED = 'eval "$(softprompt --show-completion)"; complete -o default -F _softprompt_completion prompt-tuning'


@pytest.mark.parametrize("name", ["softprompt", "prompt-tuning"])
def test_bash_completes_commands_and_options(name: str) -> None:
    for words, wanted in {"ver": ["verify"], "export pre": ["prefix"], "generate --bas": ["--base"]}.items():
        ask = f"COMP_WORDS=({name} {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _softprompt_completion {name}"
        script = f'{INSTALLED}; complete -p {name}; {ask}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        result = subprocess.run(
            ["bash", "-c", script],
            env={**environment(), "PYTHONPROFILEIMPORTTIME": "1"},
            capture_output=True,
            text=True,
        )
        assert result.stdout.splitlines() == [f"complete -o default -F _softprompt_completion {name}", *wanted]
        imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
        assert "typer" in imported
        assert imported.isdisjoint({"torch", "transformers", "datasets", "pandas", "dvc"})
