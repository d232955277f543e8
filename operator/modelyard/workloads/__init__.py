"""What features share: between them and the engine. It knows no feature."""
