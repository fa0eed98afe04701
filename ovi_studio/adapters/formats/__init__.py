"""The formats of adapter files, one module each.

A module defines which tensors belong to its format, whether they fit the parameter that they change, and how they
change it. `registry` lists the formats. Nothing here imports torch, since the page reads headers with it; code that
computes uses the tensors' own methods.
"""
