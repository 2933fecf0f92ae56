"""Detect secrets that an attacker would try first: common passwords, keyboard sequences, repetitions.

A few rules rather than a list of millions: guesses are counted (app.services.people.throttle), so only the first
hundreds count.
"""

from __future__ import annotations

import re

# The stems of common passwords, without surrounding digits and signs (from the most frequently leaked lists).
WORDS = """
    password passwort passwd pass qwerty qwertz azerty letmein welcome admin administrator changeme change me please
    iloveyou love dragon monkey football baseball basketball soccer hockey sunshine princess master superman batman
    spiderman shadow michael jennifer jordan ashley daniel thomas charlie trustno trustnoone login secret secretkey
    key my your the this is a motovault motovaultpro pro backup hello helloworld world whatever starwars summer winter
    spring autumn january december test testing tester default root postgres postgresql redis valkey server computer
    internet google samsung pokemon naruto liverpool chelsea arsenal mustang ferrari harley example user username
    guest demo temp temporary abc
"""
COMMON = frozenset(WORDS.split())
ROWS = (
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "q1w2e3r4t5y6u7i8o9p0",
    "1q2w3e4r5t6y7u8i9o0p",
    "qazwsxedcrfvtgbyhnujm",
)
LEET = str.maketrans("01345789@$!|", "oleastbgasil")
FEWEST_CHARACTERS = 6
LONGEST_PERIOD = 4


def is_common_password(password: str, *context: str) -> bool:
    """Return whether a password would be guessed early. `context`: words that belong to the account or the installation."""
    text = password.strip().lower()
    if _repeats(text) or _is_row(text):
        return True
    known = COMMON | {part for word in context for part in re.findall(r"[a-z]{3,}", word.lower())}
    # Leet inside a word ("passw0rd"), digits and signs around it ("Password2026!").
    stems = {re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text), re.sub(r"^[^a-z]+|[^a-z]+$", "", text.translate(LEET))}
    stems.add(re.sub(r"^[\W\d_]+|[\W\d_]+$", "", text).translate(LEET))
    return any(_is_made_of(stem, known) or _is_row(stem) for stem in stems) or text.isdigit()


def is_hopeless_key(secret: str) -> bool:
    """Return whether a key is trivially guessable: repeated characters, a row of keys, or words such as "change me"."""
    text = secret.strip().lower()
    few = len(set(text)) < FEWEST_CHARACTERS
    words = re.findall(r"[a-z]+", text)
    placeholder = bool(words) and sum(map(len, words)) >= len(re.sub(r"[\W_]", "", text)) - 4 and set(words) <= COMMON
    return few or _repeats(text, LONGEST_PERIOD * 4) or _is_row(text) or placeholder


def _repeats(text: str, longest: int = LONGEST_PERIOD) -> bool:
    """Return whether a text repeats a short piece."""
    period = (text + text).find(text, 1)
    return len(set(text)) < 4 or (period <= longest and period * 2 <= len(text))


def _is_row(text: str) -> bool:
    """Return whether a text runs along the keyboard, the alphabet or the digits, forwards or backwards."""
    return len(text) >= 4 and any(text in row * 2 or text[::-1] in row * 2 for row in ROWS)


def _is_made_of(stem: str, known: frozenset[str] | set[str]) -> bool:
    """Return whether a stem is one known word, two of them, or one twice."""
    if not stem or stem in known:
        return True
    return any(stem[:cut] in known and stem[cut:].strip("-_ .") in known for cut in range(3, len(stem) - 1))
