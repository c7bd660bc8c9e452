"""Graphs as pictures: where boxes and the lines between them go, and the picture as SVG."""
