"""The executor on Ray: pools whose machines are nodes of a cluster, an actor on each.

The driver (a run or a gateway) chooses pools, holds what waits, and alone writes the journal. An
actor does what `Here` does on its machine. Whatever the two tell each other is msgpack in one
`bytes` object, which Ray hands on as it is: nothing that a model or a tool put out is unpickled.
"""
