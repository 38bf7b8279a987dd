"""From files to arrays and models, and back. The optional dependencies live here."""
