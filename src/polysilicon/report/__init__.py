"""Tables, charts and HTML."""
