"""LoRA files: find, read, match, and apply them to the transformer.

A file goes one way: `header` (what it holds) -> `groups` (tensors by layer) -> `match` (which parameters that means) ->
`read` (tensors, checked, as changes of parameters) -> `fuse` or `runtime`, chosen by `manager`. What each format means
stands in `formats/`. The modules up to `match`, `formats/` and `library` import no torch: the web page uses them.
"""
