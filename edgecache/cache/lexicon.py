"""The English that the guards know: how a text is cut into words, and tables of words. No judgement."""

import re
from collections import defaultdict

PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "−": "-"})  # noqa: RUF001 - these it is about
"""One form for typographic quotes and signs."""

SYMBOLS = frozenset("<>&|*=^~#@+\\")
"""Signs that mean something by themselves, as operators do; those of units and currencies belong to numbers."""

EDGES = "\"'`()[]{}<>.,;:!?"
WORD = re.compile(
    r"""(?<![\w.)])[-+]\d(?:[\d.,:/-]*\d)?      # -5  +1.5
      | \d(?:[\d.,:/-]*\d)?                     # 1,000  3.11.2  10:30  2024-01-05
      | [^\W\d_]+(?:'[^\W\d_]+)*(?:\+\+|\#)?    # don't  C++  C#
      | [$€£¥₹%<>=*/^&|~°+]                     # signs that carry meaning by themselves
    """,
    re.VERBOSE,
)
QUOTED = re.compile(r'"([^"]+)"|`([^`]+)`|(?<!\w)\'([^\']+)\'(?!\w)')
IDENTIFIER = re.compile(
    r"""://|\w@\w|^[~.]{0,2}/\w|^\w:\\|\w/\w+/    # URLs, mail addresses, paths
      | _|::|\(\)$|[^\W\d_]{2}\.[^\W\d_]          # snake_case, a::b, f(), node.js
      | [a-z][A-Z]                                # camelCase
      | [^\W\d_]-?\d                              # B12, GPT-4
    """,
    re.VERBOSE,
)
_SEPARATORS = re.compile(r"[^\w+#]|_")
_THOUSANDS = re.compile(r",(?=\d{3}\b)")


def _table(text: str) -> dict[str, str]:
    """Rows `meaning: spelling spelling | meaning: …` as spelling to meaning."""
    rows = (row.partition(":") for row in text.replace("\n", "|").split("|") if row.strip())
    return {spelling: meaning.strip() for meaning, _, spellings in rows for spelling in spellings.split()}


NUMBERS = _table("""
    0: zero|1: one|2: two|3: three|4: four|5: five|6: six|7: seven|8: eight|9: nine|10: ten|11: eleven|13: thirteen
    12: twelve dozen|14: fourteen|15: fifteen|16: sixteen|17: seventeen|18: eighteen|19: nineteen|20: twenty
    30: thirty|40: forty|50: fifty|60: sixty|70: seventy|80: eighty|90: ninety
    1/2: half|1x: once|2x: twice double|3x: thrice triple
    1th: first|3th: third|4th: fourth|5th: fifth|6th: sixth|7th: seventh|8th: eighth|9th: ninth|10th: tenth
    january: january jan|february: february feb|march: march|april: april apr|june: june jun|july: july jul
    august: august aug|september: september sep sept|october: october oct|november: november nov
    december: december dec
    monday: monday|tuesday: tuesday tue|wednesday: wednesday wed|thursday: thursday thu|friday: friday fri
    saturday: saturday|sunday: sunday""")
"""Words that count, rank or date, and what they stand for. `may`, `second` and the like are also other words."""

ORDINALS = frozenset({"st", "nd", "rd", "th"})
CURRENCIES = _table("usd: $ usd|eur: € eur|gbp: £ gbp|inr: ₹ rs inr|jpy: ¥ jpy")
UNITS = _table("""
    %: % percent|usd: $ usd dollar dollars bucks|eur: € eur euro euros|gbp: £ gbp|inr: ₹ inr rs rupee rupees|jpy: ¥ yen
    kg: kg kgs kilo kilos kilogram kilograms|g: g gram grams|mg: mg milligram milligrams|lb: lb lbs pound pounds
    oz: oz ounce ounces|km: km kms kilometer kilometers kilometre kilometres|m: m meter meters metre metres
    cm: cm centimeter centimeters|mm: mm millimeter millimeters|mi: mile miles|ft: ft foot feet|inch: inch inches
    l: l liter liters litre litres|ml: ml milliliter milliliters|s: s sec secs seconds|min: min mins minute minutes
    h: h hr hrs hour hours|d: d day days|wk: week weeks|mo: month months|y: yr yrs year years|am: am|pm: pm|x: x times
    c: c celsius|f: f fahrenheit|deg: ° degree degrees|kb: kb|mb: mb|gb: gb|tb: tb|bit: bit bits|byte: byte bytes
    k: k thousand|hundred: hundred|million: million millions mn|billion: b bn billion billions|lakh: lakh lakhs lac
    crore: crore crores|v: v volt volts|w: w watt watts|hz: hz|ghz: ghz|mah: mah""")
"""What follows a number, in one spelling; single letters only right behind it."""

NEGATORS = frozenset(
    """not no never none nobody nothing neither nor cannot without non dont cant wont isnt arent wasnt werent doesnt
    didnt shouldnt couldnt wouldnt havent hasnt aint""".split()  # noqa: SIM905 - as a list it takes twenty lines
)
REVERSING = ("un", "in", "im", "ir", "il", "dis", "non", "mis", "anti", "de")
FILLERS = frozenset(
    """a an the of in on at to for by is are was were be been being am do does did i you we they it he she my your our
    their its me us them this that these those and or so as how what which who whom when where why can could should
    would will shall may might must has had have there here with from into if than please""".split()  # noqa: SIM905
)
"""Words that may come and go without changing what a question is about."""

SMALL = FILLERS - {"may", "will", "us", "am", "i"}
"""Words that are capitalised inside a sentence only where every word is."""

NAMELESS = SMALL | NUMBERS.keys() | {"i", "i'm", "i've", "i'd", "i'll", "not", "rs"}
"""Words whose capitals name nothing, or only what the numbers say already."""

ARTICLES = frozenset({"a", "an", "the", "my", "your", "our", "their", "its", "his", "her"})
LINKS = frozenset({"to", "from", "into", "than", "by", "over", "of", "on", "in", "for", "as", "before", "after"})
"""Words between two things in unequal roles."""

BEING = frozenset({"is", "are", "was", "were", "be", "been", "being", "get", "got"})


def stem(word: str) -> str:
    """A word without its commonest endings: enough to see `buy` in `buying`."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def squeeze(chunk: str) -> str:
    """What is left of `Node.js`, `node-js` and `nodeJS` alike."""
    return _SEPARATORS.sub("", chunk.strip(EDGES).removesuffix("'s")).casefold()


def values(word: str) -> list[str]:
    """The numbers a word stands for, as written but for thousands separators; two for a range, none for most words.

    `3.10` stays apart from `3.1`: versions are more often asked about than trailing zeros.
    """
    if not word[-1:].isdigit():
        return [NUMBERS[word]] if word in NUMBERS else []
    ends = word.split("-") if word.count("-") == 1 and word[0] != "-" else [word]
    return [_THOUSANDS.sub("", end).removeprefix("+") for end in ends]


_PAIRS = """
    more less|before after|with without|enable disable|buy sell|increase decrease|min max|minimum maximum
    minimize maximize|first last|import export|most least|best worst|better worse|up down|open close|start stop
    start end|begin end|add remove|add subtract|add delete|create delete|install uninstall|encode decode
    encrypt decrypt|push pull|send receive|on off|over under|above below|inside outside|left right|top bottom
    high low|higher lower|big small|large small|long short|fast slow|hot cold|old new|old young|early late|win lose
    love hate|like dislike|always never|all some|all any|input output|upload download|true false|male female
    man woman|boy girl|men women|husband wife|mother father|son daughter|he she|his her|good bad|positive negative
    pass fail|gain lose|accept reject|allow block|legal illegal|raise lower|rise fall|day night|summer winter
    north south|east west|cheap expensive|lend borrow|smallest largest|smallest biggest|highest lowest
    fastest slowest|oldest newest|oldest youngest|hire fire|teach learn|ask answer|read write|lock unlock
    upgrade downgrade|deposit withdraw|can should|can must|should must|why how|when where|who when|who where
    buyer seller|strong weak|heavy light|rich poor|hard easy|horizontal vertical|ascending descending|mean median
    row column|server client|debit credit|profit loss|sync async|public private|longest shortest|tallest shortest
    before during|even odd"""
OPPOSITE: dict[str, set[str]] = defaultdict(set)
"""By stem, the stems of the words it may not stand for."""
for _pair in _PAIRS.replace("\n", "|").split("|"):
    for _one, _other in (_pair.split(), _pair.split()[::-1]) if _pair.strip() else ():
        OPPOSITE[stem(_one)].add(stem(_other))
