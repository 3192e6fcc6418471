"""Techniques that somebody wrote elsewhere: their text, made of a class and made into one again."""
