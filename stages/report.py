"""Show what was measured: results/report.html and .md: `python -m stages.report`, or `dvc repro report`."""

from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.report.inputs import load_results
from softprompt.report.origins import provenance
from softprompt.runtime.outputs import output_file
from softprompt.runtime.paths import RESULTS


def main(params: Params) -> None:
    """Write the page that opens in a browser, and the short form for a pull request's comment."""
    results = load_results()
    origin = provenance(general=results.metrics["general"] is not None)

    from softprompt.report.render import html_page, markdown_page

    page, short = html_page(results, origin), markdown_page(results)
    html, markdown = RESULTS / "report.html", RESULTS / "report.md"
    with output_file(html) as html_path, output_file(markdown) as markdown_path:
        html_path.write_text(page, encoding="utf-8", newline="\n")
        markdown_path.write_text(short, encoding="utf-8", newline="\n")
    print(f"report: {html} ({html.stat().st_size / 1000:,.0f} kB) and {markdown}")


if __name__ == "__main__":
    run_stage(main)
