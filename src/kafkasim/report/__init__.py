"""Reports of one run: a page to look at, a trace for Perfetto, a sequence diagram, lines of JSON.

``write_page(story_of(cluster), "run.html")``; see docs/reports.md. Pages need the extra ``viz``.
"""

from kafkasim.report.mermaid import sequence_diagram, write_sequence
from kafkasim.report.page import write_page
from kafkasim.report.perfetto import trace_events, write_trace
from kafkasim.report.story import Story, story_of

__all__ = [
    "Story",
    "sequence_diagram",
    "story_of",
    "trace_events",
    "write_page",
    "write_sequence",
    "write_trace",
]
