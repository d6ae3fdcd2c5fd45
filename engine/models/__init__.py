"""What differs between models: from token embeddings to hidden states, and the shape of what is cached."""
