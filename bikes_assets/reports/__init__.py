"""What commands print, and nothing else: tables by rich, or JSON."""
