"""Three questions about learning, asked of gradtrace: `python -m examples.findings stack` (or `lag`, `attention`)."""
