"""The pipeline: one module per DVC stage, shared code in sub-packages named for what they do."""
