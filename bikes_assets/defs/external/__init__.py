"""What other tools have upstream and downstream of the project's assets, where a setting asks for it."""
