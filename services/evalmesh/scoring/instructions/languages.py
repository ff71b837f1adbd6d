"""Which language a text is in, by its script and, where languages share one, by its letters and commonest words.

Made for texts of a sentence and more; it knows the languages that instructions ask for and their neighbours.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

_SCRIPTS: Mapping[str, str] = {
    "GURMUKHI": "pa",
    "GUJARATI": "gu",
    "TAMIL": "ta",
    "TELUGU": "te",
    "KANNADA": "kn",
    "MALAYALAM": "ml",
    "BENGALI": "bn",
    "THAI": "th",
    "HANGUL": "ko",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "CJK": "zh-cn",
    "HEBREW": "he",
    "GREEK": "el",
}
"""Of one language each, as far as we tell; by the first word of their letters' names."""
_SHARED = ("LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI")
_WORDS: Mapping[str, Mapping[str, str]] = {
    "DEVANAGARI": {
        "hi": "है हैं में की का के से और को ने पर यह था हो भी नहीं कर एक लिए",
        "mr": "आहे आहेत आणि या व हे ते मी तो ती मध्ये नाही होते करा साठी च्या ची चा हा ही आपल्या झाला झाली झाले "
        "चांगला चांगले मला तुम्ही",
        "ne": "छ छन् र मा हो को लागि गर्न यो पनि तपाईं भएको गर्नुहोस् छैन थियो हामी मेरो",
    },
    "ARABIC": {
        "ar": "في من على إلى أن هذا هذه التي الذي كان مع لا ما عن هو هي",
        "fa": "است که را این از با به در و برای می آن های یک شما ما بود",
        "ur": "ہے ہیں کے کی کا میں سے اور کو نے پر یہ ایک نہیں کر تھا",
    },
    "CYRILLIC": {
        "ru": "и в не на что я с он как это по но его она они для мы вы был было",
        "bg": "и на да се от за е в не че са с по до като но ще си това ми",
        "mk": "и на се да од во за не е го со што кои ја ги се кој била",
        "uk": "і в не на що я з він як це та але його вона для ми ви був було",
    },
    "LATIN": {
        "en": "the of and to in is a that it for on with as was are be this you i my your at have from not but we or "
        "by",
        "de": "der die und das in ist zu den von mit sich nicht ein eine auf für es im dem ich sie wir auch als an",
        "fr": "le la les de des et un une est que qui dans pour en du sur pas au ce avec je nous vous il elle",
        "es": "el la los las de que y en un una es por con para del se no al lo su más como pero",
        "pt": "o a os as de que e em um uma é por com para do da não se no na mais como mas seu",
        "it": "il lo la i gli le di che e in un una è per con del della non si da al sono come più sul "
        "sulla nel nella dal alla ogni mi ma",
        "nl": "de het een en van in is dat op te voor met zijn niet aan er ook als maar ik je",
        "fi": "ja on ei se että oli hän en mutta kun minä joka ovat myös niin olen tämä sen kuin",
        "sw": "na ya wa kwa ni katika la za cha kuwa hii yake kama au hiyo wao sana lakini yangu "
        "mtu watu huu huo zaidi baada kila siku wote hakuna kufanya",
        "vi": "và của là có được cho trong một những không với các này đã khi người để tôi bạn",
        "id": "yang dan di dengan untuk ini itu dari dalam tidak adalah pada saya akan kami ke",
        "sv": "och att det i en som är på av för med till den har inte om ett jag du",
        "pl": "i w na z się do nie to jest że jak o po dla ale przez od za",
        "tr": "ve bir bu için ile da de çok olarak daha gibi ben ne en var",
        "ro": "și în de la cu pe o un este nu că din pentru mai care să",
    },
}
_SETS = {script: {name: frozenset(text.split()) for name, text in of.items()} for script, of in _WORDS.items()}
_LETTERS: Mapping[str, Mapping[str, str]] = {
    "ARABIC": {"ur": "ٹڈڑےںہھ", "fa": "گچپژکی", "ar": "ةىيكأإ"},
    "CYRILLIC": {"ru": "ыэё", "uk": "іїєґ", "bg": "ъщ"},
    "LATIN": {
        "vi": "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
        "de": "ßü",
        "fi": "äö",
        "sv": "å",
        "pt": "ãõ",
        "es": "ñ¿¡",
        "pl": "łęąśż",
    },
    "DEVANAGARI": {"mr": "ळ"},
}
"""Letters that tell languages of one script apart."""
_WORD = re.compile(r"\w+")
_READ = 4_000
"""Characters that are looked at."""


def language_of(text: str) -> str | None:
    """Its code (ISO 639-1); `None` where it has no letters."""
    text = unicodedata.normalize("NFC", text[:_READ]).lower()
    scripts = Counter(script for letter in text if letter.isalpha() and (script := _script(letter)))
    if not scripts:
        return None
    if scripts["HIRAGANA"] + scripts["KATAKANA"] and scripts["CJK"]:
        return "ja"
    most = scripts.most_common(1)[0][0]
    return _SCRIPTS[most] if most in _SCRIPTS else _in_script(most, text)


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return name if name in _SCRIPTS or name in _SHARED else ""


def _in_script(script: str, text: str) -> str:
    """The language with the most of its words and letters in the text; of equal ones, or with none, the first."""
    words = Counter(_marked_words(script, text))
    letters = Counter(text)
    worth = {
        name: sum(words[word] for word in known) + sum(letters[one] for one in _LETTERS.get(script, {}).get(name, ""))
        for name, known in _SETS[script].items()
    }
    return max(worth, key=worth.__getitem__)


def _marked_words(script: str, text: str) -> list[str]:
    # Vowel signs are marks, at which `\w` ends in Devanagari.
    return text.split() if script == "DEVANAGARI" else _WORD.findall(text)
