"""Which of a table's two labels means fraud: by its words, else by how rare it is."""

import re
from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))


_FRAUD = _words(
    "yes, y, true, t, fraud, frauds, fraudulent, fraudster, anomaly, anomalous, anomalies, abnormal, attack, "
    "attacks, attacker, malicious, malware, intrusion, intruder, suspicious, suspect, illicit, illegal, illegitimate, "
    "positive, pos, spam, scam, phishing, bot, botnet, outlier, bad, chargeback, charged back, charged off, stolen, "
    "theft, fake, forged, counterfeit, unauthorized, unauthorised, default, defaulted, faulty, defective, failure, "
    "invalid, compromised, laundering, ja, oui, si, sí, sim, да, 是, 真, betrug, fraude, frode, anomalie"
)
_GENUINE = _words(
    "no, n, false, f, genuine, normal, normale, benign, legit, legitimate, legal, licit, valid, ok, okay, good, "
    "clean, regular, authentic, authorized, authorised, honest, negative, neg, ham, inlier, safe, real, trusted, paid, "
    "fully paid, healthy, ordinary, background, nein, non, não, nao, нет, 否, 假, echt, legitim"
)


def label_key(text: str) -> str:
    """A key that equal labels share: 1, 1.0 and True; Yes, yes and YES."""
    text = " ".join(text.split()).casefold()
    text = {"true": "1", "false": "0"}.get(text, text)
    try:
        return repr(float(re.sub(r"(?<=\d),(?=\d+$)", ".", text))).removesuffix(".0")
    except ValueError:
        return text


def means_fraud(text: str) -> bool | None:
    """Whether the words of a label mean fraud (True) or genuine (False), else None. 0 is genuine, 1 is unclear."""
    if re.fullmatch(r"[-+.\d]+", text):
        return False if text == "0" else None
    words = re.sub("^is ?", "", " ".join(re.sub(r"[\W_]+", " ", text).casefold().split()))
    if words in _FRAUD | _GENUINE:
        return words in _FRAUD
    if negated := re.match(r"(?:not|non|no|nicht|kein|keine) ?(?:a )?(\D+)$", words):
        is_fraud = means_fraud(negated[1])
        if is_fraud is not None:
            return not is_fraud
    meanings = {word in _FRAUD for word in words.split() if len(word) > 2 and word in _FRAUD | _GENUINE}
    return meanings.pop() if len(meanings) == 1 else None


def which_is_fraud(counts: Mapping[str, int]) -> str | None:
    """Which of two labels is fraud: by their words, else the one at most half as frequent as the other, else None."""
    one, other = counts
    meanings = means_fraud(one), means_fraud(other)
    # A single letter means yes or no only beside another that does.
    if None in meanings and min(len(one), len(other)) == 1 and "0" not in counts:
        meanings = None, None
    if meanings[0] != meanings[1]:
        return one if meanings[0] or meanings[1] is False else other
    rare, frequent = sorted(counts, key=lambda label: counts[label])
    return rare if 2 * counts[rare] <= counts[frequent] else None
