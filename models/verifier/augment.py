"""Made-up pairs from real questions: small edits that change what is asked, and large ones that do not.

Templates teach a model the template; an edit of a question that somebody asked teaches what was edited. Each function
takes a question and returns the edited one, or None where it does not apply.
"""

import random
import re
from collections.abc import Callable, Sequence
from functools import partial

Edit = Callable[[str, random.Random], str | None]

_SWAPS = """more less|before after|with without|increase decrease|minimum maximum|first last|import export|most least
best worst|better worse|start stop|add remove|install uninstall|send receive|above below|inside outside|left right
high low|higher lower|big small|large small|long short|fast slow|hot cold|old new|young old|early late|win lose
love hate|like dislike|always never|input output|upload download|true false|male female|man woman|boy girl|men women
husband wife|mother father|son daughter|good bad|positive negative|pass fail|gain lose|accept reject|allow block
legal illegal|raise lower|rise fall|day night|summer winter|north south|east west|cheap expensive|lend borrow
smallest largest|highest lowest|fastest slowest|oldest youngest|hire fire|teach learn|ask answer|read write
lock unlock|upgrade downgrade|deposit withdraw|buyer seller|strong weak|heavy light|rich poor|hard easy|debit credit
profit loss|public private|tallest shortest|before during|during after|enable disable|buy sell|open close|push pull
encrypt decrypt|possible impossible|safe dangerous|happy sad|healthy unhealthy|girls boys|girlfriend boyfriend
advantages disadvantages|pros cons|benefits drawbacks|success failure|beginner expert|front back|up down|on off
morning evening|breakfast dinner|his her|he she|him her|undergraduate postgraduate|domestic international|hard soft
weight height|gain lose|arrive leave|join quit|marry divorce|import export|now previously|today yesterday|next last"""
_OPPOSITES: dict[str, list[str]] = {}
for _pair in _SWAPS.replace("\n", "|").split("|"):
    _one, _other = _pair.split()
    _OPPOSITES.setdefault(_one, []).append(_other)
    _OPPOSITES.setdefault(_other, []).append(_one)

_PLACES = [
    "India",
    "China",
    "Japan",
    "Germany",
    "France",
    "Italy",
    "Spain",
    "Canada",
    "Australia",
    "Brazil",
    "Mexico",
    "Russia",
    "Pakistan",
    "Bangladesh",
    "Nepal",
    "Turkey",
    "Egypt",
    "Nigeria",
    "Kenya",
    "London",
    "Paris",
    "Berlin",
    "Tokyo",
    "Delhi",
    "Mumbai",
    "Bangalore",
    "Chennai",
    "Kolkata",
    "Hyderabad",
    "Pune",
    "Toronto",
    "Sydney",
    "Boston",
    "Chicago",
    "Seattle",
    "Texas",
    "California",
    "Florida",
    "Singapore",
    "Dubai",
    "Malaysia",
    "Indonesia",
    "Thailand",
    "Vietnam",
    "Korea",
    "Sweden",
    "Norway",
    "Denmark",
    "Poland",
    "Greece",
    "Ireland",
    "Scotland",
    "Israel",
    "Iran",
    "Iraq",
    "Syria",
    "Argentina",
    "Chile",
    "Peru",
    "America",
]
_COMPANIES = [
    "Google",
    "Facebook",
    "Amazon",
    "Microsoft",
    "Apple",
    "Netflix",
    "Uber",
    "Twitter",
    "Instagram",
    "Snapchat",
    "WhatsApp",
    "YouTube",
    "LinkedIn",
    "Quora",
    "Reddit",
    "Samsung",
    "Sony",
    "Nokia",
    "Intel",
    "Oracle",
    "IBM",
    "Flipkart",
    "Infosys",
    "TCS",
    "Wipro",
    "Accenture",
    "Deloitte",
    "Walmart",
    "Tesla",
    "Toyota",
    "Honda",
    "Ford",
    "BMW",
    "PayPal",
    "Airbnb",
    "Spotify",
    "Gmail",
    "Android",
    "Windows",
    "Linux",
    "Java",
    "Python",
    "Ruby",
    "MATLAB",
    "Excel",
]
_NAMES = [
    "James",
    "John",
    "Robert",
    "Michael",
    "William",
    "David",
    "Richard",
    "Thomas",
    "Daniel",
    "Matthew",
    "Anthony",
    "Steven",
    "Paul",
    "Andrew",
    "Kenneth",
    "Mary",
    "Patricia",
    "Linda",
    "Barbara",
    "Susan",
    "Jessica",
    "Sarah",
    "Karen",
    "Nancy",
    "Lisa",
    "Betty",
    "Sandra",
    "Emma",
    "Olivia",
    "Laura",
    "Rahul",
    "Priya",
    "Amit",
    "Anjali",
    "Donald",
    "Hillary",
    "Barack",
    "Narendra",
    "Vladimir",
    "Angela",
    "Elon",
    "Steve",
    "Bill",
    "Mark",
    "Jeff",
]
_FAMILY = [
    "Smith",
    "Johnson",
    "Brown",
    "Jones",
    "Miller",
    "Davis",
    "Wilson",
    "Moore",
    "Taylor",
    "Clark",
    "Lewis",
    "Walker",
    "Hall",
    "Young",
    "Wright",
    "Hill",
    "Green",
    "Adams",
    "Baker",
    "Nelson",
    "Carter",
    "Mitchell",
    "Turner",
    "Phillips",
    "Campbell",
    "Parker",
    "Evans",
    "Trump",
    "Clinton",
    "Obama",
    "Modi",
    "Putin",
    "Merkel",
    "Musk",
    "Jobs",
    "Gates",
    "Kejriwal",
    "Gandhi",
    "Bush",
    "Sanders",
    "Cruz",
    "Rubio",
    "Johnson",
]
_KINDS = [set(_PLACES), set(_COMPANIES), set(_NAMES), set(_FAMILY)]
_TITLES = re.compile(r"(?<![.?!:\"] )(?<!^)\b([A-Z][a-z]{2,}|[A-Z]{2,6})\b")
_CAPITALS = frozenset(
    [
        "I",
        "How",
        "What",
        "Why",
        "Where",
        "When",
        "Who",
        "Which",
        "Is",
        "Are",
        "Do",
        "Does",
        "Can",
        "Could",
        "Should",
        "Would",
        "Will",
        "The",
        "A",
        "An",
    ]
)

_MODIFIERS = [
    "retired",
    "former",
    "famous",
    "unemployed",
    "professional",
    "certified",
    "junior",
    "senior",
    "failed",
    "amateur",
    "wealthy",
    "licensed",
    "foreign",
    "local",
    "part-time",
    "full-time",
    "single",
    "married",
    "beginner",
    "experienced",
    "independent",
    "online",
    "Christian",
    "female",
    "male",
    "second-hand",
    "used",
    "electric",
    "wireless",
    "free",
    "paid",
    "private",
    "government",
    "old",
    "new",
    "fake",
    "real",
    "small",
    "large",
]
_IRRELEVANT = ["really", "actually", "truly", "literally", "currently", "exactly", "basically", "generally", "usually"]
_STRANGERS = _IRRELEVANT  # adverbs that ask nothing else
_BE = {"is": "was", "are": "were", "was": "is", "were": "are", "does": "did", "do": "did", "has": "had", "will": "did"}
_WH = {
    "how": ["why", "when", "where"],
    "why": ["how", "when"],
    "where": ["when", "why"],
    "when": ["where", "why"],
    "who": ["where", "when", "why"],
}
_NOT_AFTER = [
    "should",
    "would",
    "could",
    "can",
    "will",
    "is",
    "are",
    "was",
    "were",
    "does",
    "did",
    "do",
    "must",
    "may",
    "might",
]


def _cased(like: str, word: str) -> str:
    return word.upper() if like.isupper() and len(like) > 1 else word.capitalize() if like[0].isupper() else word


def opposite(text: str, chance: random.Random) -> str | None:
    """One word becomes its opposite."""
    found = [m for m in re.finditer(r"[A-Za-z]+", text) if m.group().lower() in _OPPOSITES]
    if not found:
        return None
    at = chance.choice(found)
    word = chance.choice(_OPPOSITES[at.group().lower()])
    return text[: at.start()] + _cased(at.group(), word) + text[at.end() :]


def number(text: str, chance: random.Random) -> str | None:
    """One number becomes another."""
    found = list(re.finditer(r"\d+", text))
    if not found:
        return None
    at = chance.choice(found)
    value = int(at.group()[:9])
    other = chance.choice([value + 1, max(value - 1, 0), value * 2, value * 10, value + chance.randint(2, 30)])
    if 1900 < value < 2100:
        other = value + chance.choice([-20, -10, -5, -3, -2, -1, 1, 2, 3, 5])
    return None if other == value else text[: at.start()] + str(other) + text[at.end() :]


def name(text: str, chance: random.Random, others: Sequence[str]) -> str | None:
    """One name becomes another of its kind, or any name of `others` where its kind is not known."""
    found = [m for m in _TITLES.finditer(text) if m.group() not in _CAPITALS]
    if not found:
        return None
    at = chance.choice(found)
    word = at.group()
    kind = next((sorted(kind) for kind in _KINDS if word in kind), None) or others
    other = chance.choice(kind)
    return None if other.lower() == word.lower() else re.sub(rf"\b{re.escape(word)}\b", other, text)


def negate(text: str, chance: random.Random) -> str | None:
    """`should I` becomes `should I not`, `are` becomes `are not`; or a `not` goes away."""
    if (at := re.search(r"\b(?:not|never) |n't\b", text)) and chance.random() < 0.8:
        return text[: at.start()] + text[at.end() :]
    found = [m for m in re.finditer(r"\b[A-Za-z]+\b", text) if m.group().lower() in _NOT_AFTER]
    if not found:
        return None
    at = chance.choice(found)
    if at.start() == 0 or chance.random() < 0.5:
        subject = re.match(r" (?:I|you|we|they|he|she|it|people|someone|one|[A-Z]\w+)\b", text[at.end() :])
        if subject:
            end = at.end() + subject.end()
            return text[:end] + " not" + text[end:]
        if at.start() == 0:
            return None
    return text[: at.end()] + " not" + text[at.end() :]


def modifier(text: str, chance: random.Random) -> str | None:
    """`a house` becomes `an old house`: a narrower question."""
    found = list(re.finditer(r"\b(an?|the|my) (?=[a-z]{3,})", text))
    if not found:
        return None
    at = chance.choice(found)
    word = chance.choice(_MODIFIERS)
    article = at.group(1)
    if article in {"a", "an"}:
        article = "an" if word[0] in "aeiou" else "a"
    return f"{text[: at.start()]}{article} {word} {text[at.end() :]}"


def another_modifier(text: str, chance: random.Random) -> tuple[str, str] | None:
    """Both questions get a modifier in the same place, each another."""
    one, other = modifier(text, random.Random(chance.random())), None
    for _ in range(8):
        state = chance.random()
        one, other = modifier(text, random.Random(state)), None
        if one is None:
            return None
        word = next((m for m in _MODIFIERS if f" {m} " in one and f" {m} " not in text), None)
        if word is None:
            continue
        substitute = chance.choice([m for m in _MODIFIERS if m != word and (m[0] in "aeiou") == (word[0] in "aeiou")])
        other = one.replace(f" {word} ", f" {substitute} ", 1)
        return one, other
    return None


def tense(text: str, chance: random.Random) -> str | None:
    """What is becomes what was, will be, or is becoming."""
    at = re.search(r"\b(is|are|was|were|does|do|has|will)\b", text, re.IGNORECASE)
    if at is None:
        return None
    verb = at.group().lower()
    if verb in {"is", "are"} and chance.random() < 0.35:
        rest = re.match(
            r" (?:[A-Z]\w+(?: [A-Z]\w+)?|he|she|it|they|this|the \w+)(?= (?:an? |the |[a-z]))", text[at.end() :]
        )
        if rest:
            end = at.end() + rest.end()
            head = text[: at.start()]
            if chance.random() < 0.5:
                return head + at.group() + rest.group() + " " + chance.choice(["becoming", "no longer"]) + text[end:]
            return head + _cased(at.group(), "did") + rest.group() + " use to be" + text[end:]
    return text[: at.start()] + _cased(at.group(), _BE[verb]) + text[at.end() :]


def asked(text: str, chance: random.Random) -> str | None:
    """Another question word: `how` becomes `why`."""
    at = re.match(r"(How|Why|Where|When|Who)\b(?! (?:many|much|long|old|often|far))", text)
    if at is None:
        return None
    return _cased(at.group(), chance.choice(_WH[at.group().lower()])) + text[at.end() :]


def roles(text: str, chance: random.Random) -> str | None:
    """What stands on the two sides of a word that links unequal roles changes places."""
    link = r"to|from|into|than|by|over|of|in|for|as|before|after|beat|beats|attack|attacked|love|loves|hate|hates|help"
    found = list(
        re.finditer(
            rf"\b((?:[A-Z]\w+|\w{{4,}})) ({link}|better than|more than|different from) ((?:[A-Z]\w+|\w{{4,}}))\b", text
        )
    )
    found = [m for m in found if m.group(1) != m.group(3) and m.start() > 0]
    if not found:
        return None
    at = chance.choice(found)
    return f"{text[: at.start()]}{at.group(3)} {at.group(2)} {at.group(1)}{text[at.end() :]}"


def reversed_active(text: str) -> tuple[str, str] | None:
    """`did A VERB B` in the passive, and with the roles changed."""
    at = re.search(
        r"\b(did|does|do) ((?:[A-Z]\w+ ?){1,2}) ?\b([a-z]{4,}) "
        r"((?:the |an? )?(?:[A-Z]\w+|[a-z]{4,}))(?=[?.,]| in | on |$)",
        text,
        re.IGNORECASE,
    )
    if at is None or not at.group(2).strip():
        return None
    subject, verb, thing = at.group(2).strip(), at.group(3), at.group(4)
    if verb in {
        "become",
        "becomes",
        "have",
        "need",
        "want",
        "think",
        "feel",
        "make",
        "made",
        "seem",
        "look",
        "come",
        "work",
    } or thing in {"about", "from", "with", "that"}:
        return None
    irregular = {
        "take": "taken",
        "give": "given",
        "write": "written",
        "choose": "chosen",
        "beat": "beaten",
        "build": "built",
        "buy": "bought",
        "find": "found",
        "lose": "lost",
        "sell": "sold",
        "send": "sent",
        "leave": "left",
        "hold": "held",
        "know": "known",
        "win": "won",
        "keep": "kept",
        "break": "broken",
    }
    done = irregular.get(verb) or (verb + "d" if verb.endswith("e") else verb + "ed")
    was = {"did": "was", "does": "is", "do": "are"}[at.group(1).lower()]
    was = _cased(at.group(1), was)
    head, tail = text[: at.start()], text[at.end() :]
    return (
        f"{head}{was} {thing} {done} by {subject}{tail}",
        f"{head}{was} {subject} {done} by {thing}{tail}",
    )


def prefix_scope(text: str, chance: random.Random) -> str | None:
    """The same question about one case more: a place, a time or a condition is added."""
    tail = chance.choice(
        [
            "in " + chance.choice(_PLACES),
            "in " + str(chance.randint(1990, 2024)),
            "for kids",
            "without money",
            "as a " + chance.choice(["student", "beginner", "woman", "foreigner"]),
            "at home",
            "for free",
            "on a Mac",
            "under 18",
            "over 50",
            "with " + chance.choice(["diabetes", "a budget", "Python", "Excel"]),
        ]
    )
    if not text.endswith("?") or tail.lower() in text.lower():
        return None
    return f"{text[:-1]} {tail}?"


# ------------------------------------------------------------------------------------------- the same question


_SAME = [
    (r"\bWhat is\b", "What's"),
    (r"\bWhat's\b", "What is"),
    (r"\bHow do I\b", "How can I"),
    (r"\bHow can I\b", "How do I"),
    (r"\bHow do I\b", "What is the way to"),
    (r"\bHow can I\b", "How could I"),
    (r"\bHow do you\b", "How does one"),
    (r"\bHow should I\b", "How do I"),
    (r"\bWhat are some\b", "What are"),
    (r"\bWhat are the\b", "What are some of the"),
    (r"\bdo not\b", "don't"),
    (r"\bdon't\b", "do not"),
    (r"\bcannot\b", "can't"),
    (r"\bcan't\b", "cannot"),
    (r"\bis not\b", "isn't"),
    (r"\bI am\b", "I'm"),
    (r"\bI'm\b", "I am"),
    (r"\bbest way\b", "most effective way"),
    (r"\bbest\b", "top"),
    (r"\bget rid of\b", "remove"),
    (r"\bbuy\b", "purchase"),
    (r"\bstart\b", "begin"),
    (r"\blearn\b", "study"),
    (r"\bimprove\b", "get better at"),
    (r"\bincrease\b", "raise"),
    (r"\bphone\b", "mobile phone"),
    (r"\bgood\b", "great"),
    (r"\bmovies\b", "films"),
    (r"\bpeople\b", "persons"),
    (r"\bquickly\b", "fast"),
    (r"\bWhy do\b", "What is the reason that"),
    (r"\bIs it possible to\b", "Can I"),
    (r"\bbig\b", "large"),
    (r"\bdifference between (\w+) and (\w+)\b", r"difference between \2 and \1"),
    (r"\b([A-Z]\w+) (and|or|vs|versus) ([A-Z]\w+)\b", r"\3 \2 \1"),
    (r"\bWhich is better,? (\w+) or (\w+)\b", r"Which one is better: \2 or \1"),
    (r"\bmarried to\b", "the spouse of"),
    (r"\bnot possible\b", "impossible"),
    (r"\bimpossible\b", "not possible"),
    (r"\billegal\b", "not legal"),
    (r"\bnot legal\b", "illegal"),
    (r"\bless expensive\b", "cheaper"),
    (r"\bcheap\b", "not expensive"),
    (r"\bdangerous\b", "not safe"),
    (r"\bsafe\b", "not dangerous"),
    (r"\bmore expensive\b", "less cheap"),
    (r"\bmore difficult\b", "less easy"),
    (r"\beasier\b", "less difficult"),
    (r"\bbecome more confident\b", "become less insecure"),
    (r"\bone\b", "1"),
    (r"\btwo\b", "2"),
    (r"\bthree\b", "3"),
    (r"\b10\b", "ten"),
    (r"\b5\b", "five"),
    (r"\bIndia\b(?=\?)", "the country of India"),
]
_POLITE = [
    "Please tell me: {}",
    "Hi, {}",
    "Quick question: {}",
    "I would like to know: {}",
    "{} Thanks!",
    "Can anyone help? {}",
    "Hey! {}",
    "{} Please help.",
    "I was wondering, {}",
]


def reworded(text: str, chance: random.Random) -> str | None:
    """Another phrase for the same."""
    able = [(pattern, by) for pattern, by in _SAME if re.search(pattern, text)]
    if not able:
        return None
    for pattern, by in chance.sample(able, min(len(able), chance.choice([1, 1, 2]))):
        text = re.sub(pattern, by, text, count=1)
    return text


def sloppy(text: str, chance: random.Random) -> str | None:
    """Lower case, no punctuation, a slip of the fingers."""
    how = chance.random()
    if how < 0.3:
        return text.lower()
    if how < 0.5:
        return text.rstrip("?. ")
    if how < 0.6:
        return text.upper()
    words = text.split()
    able = [i for i, word in enumerate(words) if len(word) > 5 and word.isalpha() and word.islower()]
    if not able:
        return text.lower().rstrip("?")
    i = chance.choice(able)
    word = words[i]
    at = chance.randrange(1, len(word) - 2)
    words[i] = word[:at] + (word[at + 1] + word[at] if chance.random() < 0.5 else word[at + 1]) + word[at + 2 :]
    return " ".join(words)


def polite(text: str, chance: random.Random) -> str | None:
    """With a greeting or a thank-you."""
    return chance.choice(_POLITE).format(text)


def irrelevant(text: str, chance: random.Random) -> str | None:
    """With an adverb that asks nothing else."""
    found = list(
        re.finditer(
            r"\b(?:Is|Are|Was|Do|Does|Did|Can|Should) (?:I|you|we|they|he|she|it|the \w+|that \w+|[A-Z]\w+)\b", text
        )
    )
    if not found:
        return None
    end = chance.choice(found).end()
    return f"{text[:end]} {chance.choice(_STRANGERS)}{text[end:]}"


def different(names: Sequence[str]) -> dict[str, Edit]:
    """The edits that ask something else."""
    return {
        "opposite": opposite,
        "number": number,
        "name": partial(name, others=names),
        "negate": negate,
        "modifier": modifier,
        "tense": tense,
        "asked": asked,
        "roles": roles,
        "narrower": prefix_scope,
    }


SAME: dict[str, Edit] = {"reworded": reworded, "sloppy": sloppy, "polite": polite, "irrelevant": irrelevant}
"""The edits that ask the same."""


def proper_names(texts: Sequence[str]) -> list[str]:
    """Names seen at least three times inside the texts."""
    seen: dict[str, int] = {}
    for text in texts:
        for found in _TITLES.findall(text):
            seen[found] = seen.get(found, 0) + 1
    return sorted(word for word, times in seen.items() if times >= 3 and word not in _CAPITALS)
