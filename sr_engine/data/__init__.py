"""Floor 3: pictures, how they are degraded, and the endless, reproducible stream of training pairs made from them.

Importing this package registers the data sets `folder`, `paired`, `list` and `demo`.
"""
