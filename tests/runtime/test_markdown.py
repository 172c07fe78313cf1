"""Tables in Markdown."""

from softprompt.runtime.markdown import table


def test_a_table_reads_well_in_a_terminal_and_keeps_every_cell() -> None:
    lines = [["name", "text", "number"], ["a|b", "1e3", "1.500"], ["", "two\nlines", ""], ["软提示", "", "-0"]]
    assert table(lines, texts=2).splitlines() == [
        "| name   | text      |   number |",
        "|:-------|:----------|---------:|",
        "| a\\|b   | 1e3       |    1.500 |",
        "|        | two lines |          |",
        "| 软提示 |           |       -0 |",  # a terminal shows each of these characters two columns wide
    ]


def test_a_terminal_obeys_no_cell() -> None:
    shown = table([["na\x1bme", "text"], ["\x1b[2J\x9b2J", "\u202eabc\udc80\x00"]], texts=2)
    assert shown.replace("\n", "").isprintable()
    assert r"\x1b[2J\x9b2J" in shown
    assert r"\u202eabc\udc80\x00" in shown
