"""How many pictures there are in the folder whose encoder is switched: few, as each is encoded often."""

CATS, DOGS = 24, 16
ALL = CATS + DOGS
