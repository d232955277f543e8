"""A loaded model as requests meet it, and the state of the server around it."""
