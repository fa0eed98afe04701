"""From a spec to a clip: the pipeline, the placement of its models, and the runner that makes clips in turn."""
