"""Which passwords are too easy to guess. No rules about capitals, digits or signs: they only make people predictable.

Long enough, not what everybody tries (also with digits around it and signs in the place of letters), not the address.
"""

from __future__ import annotations

import string

#: In characters as people count them, not bytes.
LEAST_CHARACTERS = 12
MOST_CHARACTERS = 256

#: Of a password that holds the address, this much must be left without it.
_LEAST_BESIDE_ADDRESS = 8
_LEAST_DISTINCT = 5
_LONGEST_PERIOD = 4

_DECORATION = string.digits + string.punctuation + string.whitespace
_LOOKS_LIKE = (str.maketrans("01345789@$!+|", "oleastbgasitl"), str.maketrans("01345789@$!+|", "oieastbgasiti"))

#: What lists of leaked passwords are made of once digits and signs are taken away.
_LIST = """
    aaaa abc abcd abcde abcdef abcdefg abcdefgh access account action adam adidas admin administrator adrian
    airborne albert alex alexander alexandra alice allison alpha amanda amber america american andrea andrew angel
    angela angels animal anna anthony apollo apple apples april arsenal arthur asdf asdfgh asdfghjkl ashley august
    austin autumn awesome azerty baby babygirl backup bailey banana barcelona barney baseball basketball batman
    beach bear beautiful beaver benjamin bigdog bill black blackie blessed blink blue bond bonnie boomer boston
    brandon brandy brazil broncos brooklyn bubba buddy bulldog buster butter butterfly calvin camaro cameron canada
    captain cards carlos caroline casper catch celtic champion change changeme charles charlie charlotte cheese
    chelsea cherry chester chevy chicago chicken chocolate chris christian christine christopher city claudia coffee
    company computer cookie cool cooper corvette courtney cowboy cowboys crystal cupcake daddy dakota dallas daniel
    danielle dark database david death december default dell demo dennis desktop destiny diablo diamond doctor dog
    dolphin dolphins domain donald dragon eagle eagles edward einstein electric elizabeth emily enter eric fabian
    falcon family fantasy february ferrari fire fish flower flowers fluffy football forever francis frank freddy
    freedom friday friend friends gandalf garfield george ginger girl god godzilla gold golden golf google gordon
    green guest guitar hacker hallo hammer hannah happy harley harry heart heather heaven hello hellokitty helpme
    hockey holiday honda honey hotdog house hunter iceman iloveu iloveyou indian infinity internet isabella jack
    jackson jaguar james january jasmine jason jennifer jeremy jessica jesus john johnny johnson jordan joseph
    joshua july junior justin kevin killer kiss kitten kitty knight lakers lauren legend letmein liberty lightning
    lions liverpool lizard login london love lovely lover lucky madison maggie magic manager march marina marine
    mario marlboro martin master matrix matthew maverick maxwell melissa mercedes merlin metallica mexico michael
    michelle mickey midnight miller mine mittens monday money monitor monkey monster morgan mother mountain muffin
    music mustang my myspace naruto nascar natalie nathan ncc network newyork nicholas nicole nintendo nirvana
    november number october oliver olivia online orange packers pakistan panda panther paradise pass passord passw
    passwd password passwort patrick peaches peanut pepper phoenix pioneer pirate platinum player please pokemon
    police porsche power prince princess private purple qazwsx qazwsxedc qwer qwert qwerty qwertyu qwertyuiop qwertz
    rabbit rachel raiders rainbow ranger rangers raven rebecca red redsox richard robert rock rocket root rosebud
    russia sabrina sailor samantha samsung sandra santiago saturday scooby scorpion scott secret secure security
    september server service shadow shannon sierra silver simpsons single slayer smokey snoopy soccer soleil sophie
    spider spiderman spring startrek starwars steelers stella stephen steven student summer sunday sunflower
    sunshine super superman superstar support swimming sydney system taylor teacher temp tennis test testing thanks
    the theman thomas thunder thursday thx tiffany tiger tigers tigger tinkerbell tocsin tomcat toyota travis
    trustno trustnoone tuesday tweety unknown user vanessa victor victoria viking virginia vision voyager warrior
    warcraft wednesday welcome whatever white william wilson winner winston winter wizard wolf wolverine work xavier
    yamaha yankees yellow you your zxcvb zxcvbn zxcvbnm
"""
_WORDS = frozenset(_LIST.split())

#: Walks over the keyboard and runs, any part of which is as well known.
_WALKS = (
    "1234567890" * 3,
    "0987654321" * 3,
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "q1w2e3r4t5y6u7i8o9p0",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "azertyuiopqsdfghjklmwxcvbn",
    "abcdefghijklmnopqrstuvwxyz" * 2,
    "zyxwvutsrqponmlkjihgfedcba",
    "!@#$%^&*()_+",
    "qazwsxedcrfvtgbyhnujm",
)


def weakness(password: str, email: str) -> str | None:
    """What is wrong with a new password for the user with this address, None when it will do."""
    if len(password) < LEAST_CHARACTERS:
        return f"must have at least {LEAST_CHARACTERS} characters"
    if len(password) > MOST_CHARACTERS:
        return f"must have at most {MOST_CHARACTERS} characters"
    folded = password.casefold()
    if _holds_address(folded, email.casefold()):
        return "must not be made from your address"
    if _is_monotonous(folded) or _is_walk(folded) or any(_is_common(core) for core in _cores(folded)):
        return "is one of the first that everybody tries"
    return None


def _holds_address(folded: str, email: str) -> bool:
    local = email.partition("@")[0]
    if email and email in folded:
        return True
    return len(local) > 2 and local in folded and len(folded.replace(local, "")) < _LEAST_BESIDE_ADDRESS


def _is_monotonous(folded: str) -> bool:
    if len(set(folded)) < _LEAST_DISTINCT:
        return True
    return any(folded == (folded[:period] * len(folded))[: len(folded)] for period in range(1, _LONGEST_PERIOD + 1))


def _is_walk(folded: str) -> bool:
    return any(folded in walk for walk in _WALKS)


def _cores(folded: str) -> set[str]:
    """The letters that are left without what people hang on and put in their place."""
    stripped = {folded, folded.strip(_DECORATION), folded.rstrip(_DECORATION)}
    read = stripped | {text.translate(table) for text in stripped for table in _LOOKS_LIKE}
    return {core for core in ("".join(filter(str.isalpha, text)) for text in read) if core}


def _is_common(core: str) -> bool:
    """Whether one or two words that everybody tries, however often, are all there is."""
    return core in _WORDS or _is_walk(core) or _words_in(core) <= 2


def _words_in(core: str) -> int:
    """How many different words the text is made of, three for any number above and for what is no words at all."""
    found: list[set[frozenset[str]]] = [{frozenset()}, *(set() for _ in core)]
    for end in range(1, len(core) + 1):
        for begin in range(max(0, end - 13), end):
            word = core[begin:end]
            if word in _WORDS:
                found[end] |= {words | {word} for words in found[begin] if len(words | {word}) <= 2}
    return min((len(words) for words in found[-1]), default=3)
