"""The page that `dvc plots show` fills, with its charts' library in it: `python -m softprompt.maintenance.plots PATH`.

DVC's own loads Vega from the network. The library is taken from the installed `vl-convert-python`.
"""

import sys
from pathlib import Path

from softprompt.runtime.outputs import output_file

# DVC's placeholders. {scripts}, which would load the library, is left out on purpose.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
{refresh_tag}
<title>Plots</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; margin: 1rem; }</style>
<script>%s</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def main() -> None:
    """Write the page to the path that was given."""
    import vl_convert

    # DVC's charts are of Vega-Lite 5 and call the global function vegaEmbed.
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version="5.21")
    with output_file(Path(sys.argv[1])) as path:
        path.write_text(PAGE % library.replace("</script", "<\\/script"), encoding="utf-8")


if __name__ == "__main__":
    main()
