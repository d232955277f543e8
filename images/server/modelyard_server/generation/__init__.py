"""Text generation: transformers' continuous batching, and what it lacks. It knows no HTTP."""
