"""From a spec to a clip: the pipeline, where its models are, and who makes clips one after the other."""
