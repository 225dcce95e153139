"""What came out: one JSON file per run (`results`), and tables made of nothing but those files (`tables`).

Nothing here imports torch, so a results folder can be read on any machine with pandas and rich.
"""

from lit_scaledrop.extras import extra

extra("pandas", "a table or figure")
