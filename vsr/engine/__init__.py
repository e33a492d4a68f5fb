"""The torch half: colour, staging, networks, tiles; frames in, upscaled frames out."""
