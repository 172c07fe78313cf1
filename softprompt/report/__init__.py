"""The report: results/report.html, one page that needs nothing but itself, and results/report.md, the same in short."""
