"""A model's folder: what is in it, its tokenizer, and the answers that it must give."""
