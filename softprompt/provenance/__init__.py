"""What a result was made of: code, params, bytes of model and rows, versions of libraries."""
