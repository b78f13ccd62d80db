"""Questions about learning, asked of gradtrace: `python -m examples.findings lag` (or `attention`)."""
