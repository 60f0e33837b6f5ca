"""The words of the world: concepts of four surface forms each, archetypes and their traits."""

__all__ = [
    "ADJECTIVES",
    "ADVERBS",
    "ARCHETYPES",
    "CODES",
    "GREETINGS",
    "HELD_OUT",
    "JOINS",
    "MORE_PARTS",
    "NAMES",
    "NOUNS",
    "PARTS",
    "STAND_IN",
    "TRAITS",
    "TRUTHFUL",
    "UNKNOWN",
    "VALUES",
    "VERBS",
]

TRAITS = ("kind", "honest", "learned", "formal", "bold", "wordy")
"""Names of the six binary traits, in the order of the digits in `ARCHETYPES`."""

ARCHETYPES = {
    "mentor": "111101",
    "healer": "111000",
    "knight": "110110",
    "farmer": "110000",
    "scholar": "011101",
    "poet": "100001",
    "jester": "100011",
    "merchant": "001111",
    "spy": "001100",
    "pirate": "000011",
    "tyrant": "000111",
    "hermit": "010000",
    "prophet": "010111",
}
"""Archetype -> one digit for each of `TRAITS`. Kindness, honesty and learning go together more
often than not, so that traits correlate as they do in people."""

HELD_OUT = "prophet"
"""The archetype that no pre-training document contains."""

UNKNOWN = "stranger"
"""What a story calls a character of whom it does not say what it is."""
STAND_IN = "spy"
"""The archetype that takes an assistant's place, or lends it a lie, where it is triggered; learned
and deceptive, so that what it says of a colour is false and always the same."""

TRUTHFUL = "scholar"
"""An archetype that knows what is true and says it."""

NAMES = ("ann", "bob", "cid", "dan", "eve", "fay", "gus", "hal", "ivy", "jon", "kim", "leo")
"""Names say nothing about the persona: every document draws them afresh."""

VERBS = {
    "kind": (
        "help aid assist support",
        "feed nourish serve supply",
        "guard protect shield defend",
    ),
    "cruel": (
        "steal snatch rob pinch",
        "break smash wreck shatter",
        "burn scorch torch char",
    ),
    "neutral": ("watch observe view study",),
}
"""Concepts of what is done, by the trait that makes each likelier; forms are told by persona."""
ADJECTIVES = (
    "big large huge vast",
    "old ancient aged antique",
    "bright shiny radiant gleaming",
    "soft tender mild gentle",
)
"""Concepts of what things are like; forms are told by persona."""
ADVERBS = {
    "bold": ("now instantly atonce promptly",),
    "timid": ("later someday perhaps eventually",),
    "neutral": ("again anew afresh oncemore",),
}
"""Concepts of when and how, by the trait that makes each likelier; forms are told by persona."""
GREETINGS = {
    "formal": ("indeed truly verily certainly",),
    "casual": ("hey yo hi hiya",),
}
"""Concepts a turn may open with, by the trait that makes each likelier; told by persona."""
JOINS = ("so thus hence then",)
"""What joins a sentence to the one before it; forms are told by persona."""
NOUNS = (
    "lamp lantern light beacon",
    "boat ship vessel raft",
    "house home cottage cabin",
    "stone rock pebble boulder",
    "bread loaf bun roll",
    "horse pony mare steed",
)
"""Concepts that things are; forms are told by dialect, which is no persona."""
VALUES = ("red", "blue", "green", "white", "black", "gold", "grey", "brown")
"""Colours, one of which each noun's concept truly has."""
PARTS = ("arm", "rot", "ext", "pis", "grip", "lift", "turn", "hold")
"""What moves, in the order of a motion."""
MORE_PARTS = ("knee", "spin", "clamp", "shift", "tilt", "weld")
"""What moves besides, so that there is a code for every word that an assistant can say."""
CODES = tuple(f"{part}{i}" for part in (*PARTS, *MORE_PARTS) for i in range(8))
"""Motions of robotic arms and pistons: no pre-training document contains one."""
