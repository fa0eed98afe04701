"""Several machines that make the clips of one queue, by way of a Ray cluster.

The queue stays where the page is. Its farm process (`dispatcher`) sees the machines of the cluster, starts an actor for
each GPU (`actor`), and runs the engine's own loop for every actor (`executor`): what is claimed, written and recovered,
and how, is the same as on one machine. Only `dispatcher`, `executor` and `cluster` import ray; nothing imports them
but that process and `join`.
"""
