"""Reports on runs: asked of the question library, told as one HTML page, as Markdown or as a picture.

`gather` asks and returns plain data, a `Report`; `to_html`, `to_markdown` and `to_png` only write it down.
"""

from gradtrace.service.report.gather import gather as gather
from gradtrace.service.report.model import Report as Report
from gradtrace.service.report.page import to_html as to_html
from gradtrace.service.report.page import to_markdown as to_markdown
from gradtrace.service.report.picture import to_png as to_png

__all__ = ["Report", "gather", "to_html", "to_markdown", "to_png"]
