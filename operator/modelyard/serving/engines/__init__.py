"""What computes the answers: our own server, vLLM's, or one of the user's."""
