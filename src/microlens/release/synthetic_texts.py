"""Titles and comments of synthetic micro-videos."""

import numpy as np

from microlens.release.synthetic_media import Look

TITLES = (
    "{colour} {shape} {motion}, humming {pitch} # {backdrop} # chill",
    "so {colour}! A {shape} that keeps {motion} # satisfying",
    'they said "just a {shape}", now listen to that {pitch} hum # sound on',
    "{motion} by the {backdrop}, my little {colour} friend # daily",
    "{colour}, {colour}, nothing but {colour} # color therapy",
    "wait for it... a {shape} {motion} # unexpected",
    "how {pitch} can a {shape} sing? # {colour} # shapes",
    '"{colour}" is a mood # {shape} # {motion}',
    "the {colour} {shape} you asked for # {pitch} voice",
    "POV: you are a {colour} {shape} # {motion} # relax",
)
"""Most titles mention only some of the attributes, as real titles do."""

COMMENT_OPENINGS = ("", "wow, ", "haha ", "honestly, ", "again and again: ", "my cat agrees, ", "day 3 and ", "ok but ")
COMMENTS = (
    "this {shape} made my day",
    "the {colour} is perfect",
    "who else came for the {pitch} hum?",
    "it is still {motion} in my head",
    "I could watch this all night",
    "more {colour} please",
    "take me to that {backdrop}",
    "best {shape} on the platform",
    "the ending!",
    "sent it to my sister",
    "needs to be {motion} faster",
)


def title_of(look: Look, rng: np.random.Generator) -> str:
    """Draw a title that mentions some of the item's attributes."""
    title = TITLES[rng.integers(len(TITLES))].format(**vars(look))
    first_letter = 1 if title.startswith('"') else 0
    return title[:first_letter] + title[first_letter].upper() + title[first_letter + 1 :]


def comment_on(look: Look, rng: np.random.Generator) -> str:
    """Draw a short comment on the item."""
    opening, rest = rng.integers((len(COMMENT_OPENINGS), len(COMMENTS)))
    return COMMENT_OPENINGS[opening] + COMMENTS[rest].format(**vars(look))
