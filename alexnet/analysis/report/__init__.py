"""HTML reports: one page about a run, or one that compares several, each a single file.

`run_report` and `comparison` gather plain values, `render` fills the Jinja templates with them.
"""
