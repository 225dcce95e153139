"""All that a results folder holds as one HTML page: `write_page`. No server, no network, no script but its own."""

from lit_scaledrop.report.page.document import write_page

__all__ = ["write_page"]
