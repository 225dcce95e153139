"""Reports: tables and figures made only from results, one JSON file per run.

Nothing here imports torch, so a results folder can be read on any machine with pandas and rich.
"""

from lit_scaledrop.extras import extra

extra("pandas", "a table or figure")
