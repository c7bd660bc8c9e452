"""The index over the event log, and its answers: upstream, downstream, paths, differences, traces, waste."""
