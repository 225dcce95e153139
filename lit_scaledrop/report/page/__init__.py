"""All contents of a results folder on one HTML page: `write_page`. It needs no server, network or external script."""

from lit_scaledrop.report.page.document import write_page

__all__ = ["write_page"]
