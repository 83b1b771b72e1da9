"""How each format becomes rows, upright, in colours that a network takes, in bounded memory."""
