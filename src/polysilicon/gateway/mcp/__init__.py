"""The tools of the gateway for programs that speak the Model Context Protocol."""
