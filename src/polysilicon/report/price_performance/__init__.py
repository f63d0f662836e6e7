"""The page of the docs that says what tokens and tool work cost over processors and load."""
