"""What commands print: lines, tables by rich, Markdown, JSON."""
