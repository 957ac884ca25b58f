"""mnasbench: from a classifier's weights to the numbers that decide whether it can be deployed.

The packages follow the chain, and each imports only from those before it and from the ground:

``data`` -> ``model`` -> ``build`` -> ``run`` -> ``result``;
ground: the modules beside them.
"""
