"""LoRA files: find, read, match, and apply them to the transformer.

A file goes one way: `header` (what it holds) -> `match` (which parameters that means) -> `read` (tensors, checked) ->
`changes` (the one form behind every format) -> `fuse` or `runtime`, chosen by `manager`. The modules up to `match`,
`stack` and `library` import no torch: the web page uses them.
"""
