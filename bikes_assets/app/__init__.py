"""This project's settings, store and current state, and the questions that Python code can ask about them."""
