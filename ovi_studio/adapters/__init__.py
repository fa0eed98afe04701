"""LoRA files: find, read, match, and apply them to the transformer.

Data flow: `header` (what a file contains) -> `groups` (tensors by layer) -> `match` (the parameters that they change)
-> `read` (checked tensors as changes of parameters) -> `fuse` or `runtime`, chosen by `manager`. `formats/` defines
each format. The modules up to `match`, `formats/` and `library` import no torch: the web page uses them.
"""
