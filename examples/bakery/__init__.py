"""Plain assets of a bakery, in one file."""
