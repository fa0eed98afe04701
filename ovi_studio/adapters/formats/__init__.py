"""The algebras that adapter files are written in, a file each.

A file says which tensors are its own, whether they fit the parameter that they change, and what they do to it.
`registry` lists them. Nothing here imports torch: the page looks at headers with it. What changes tensors uses their
own methods.
"""
