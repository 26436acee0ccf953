#!/usr/bin/env python3
"""How well and how fast the statistical spam filter judges: the SpamAssassin public corpus, half learnt, half judged.

    make build/spam-corpus/.unpacked && make -j2 build/tools/spam_tool && python3 tests/bench/spam.py

Splits: per folder, file names sorted, even places learnt and odd ones judged; the other way round; and by chance. The
threshold is the product's own: nothing is chosen by looking at what is judged. Network checks, rules and what is known of
senders play no part."""

import pathlib
import random
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CORPUS = ROOT / "build/spam-corpus/package/data"
FOLDERS = (("0", "easy-ham-1"), ("0", "easy-ham-2"), ("0", "hard-ham-1"), ("1", "spam-1"), ("1", "spam-2"))
FOLDS = 10
SPLITS_BY_CHANCE = 4


def threshold():
    text = (ROOT / "mail/spam/spam_classifier.h").read_text()
    return float(re.search(r"#define SPAM_SCORE_THRESHOLD +([\d.]+)", text)[1])


class Filter:
    def __init__(self):
        self.messages = [(label, path) for label, folder in FOLDERS for path in sorted((CORPUS / folder).glob("*.txt"))]
        self.is_spam = [label == "1" for label, _ in self.messages]
        self.list = tempfile.NamedTemporaryFile("w", suffix=".list")
        self.list.writelines(f"{label} {path}\n" for label, path in self.messages)
        self.list.flush()
        self.process = subprocess.Popen([ROOT / "build/tools/spam_tool", self.list.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.count, self.us_each, self.features_each = self.process.stdout.readline().split()

    def scores(self, learnt, judged):
        marks = "".join("+" if i in learnt else "?" if i in judged else "." for i in range(len(self.messages)))
        self.process.stdin.write(marks + "\n")
        self.process.stdin.flush()
        return dict(zip(sorted(judged), map(float, self.process.stdout.readline().split())))

    def cross_validated(self, part):
        order = sorted(part)
        random.Random(1).shuffle(order)
        scores = {}
        for k in range(FOLDS):
            judged = set(order[k::FOLDS])
            scores.update(self.scores(part - judged, judged))
        return scores


def rates(scores, is_spam, at):
    ham = [s for i, s in scores.items() if not is_spam[i]]
    spam = [s for i, s in scores.items() if is_spam[i]]
    return sum(s > at for s in ham), len(ham), sum(s > at for s in spam), len(spam)


def show(name, scores, is_spam, at):
    wrong, ham, caught, spam = rates(scores, is_spam, at)
    print(f"| {name} | {wrong} of {ham} = {100 * wrong / ham:.2f} % | {caught} of {spam} = {100 * caught / spam:.2f} % |", flush=True)


def show_curve(scores, is_spam):
    print("\n| threshold | wrongly spam | caught |\n|---|---|---|")
    for at in (-1, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6):
        show(at, scores, is_spam, at)
    print()


def main():
    if not CORPUS.exists():
        print("The corpus is not here (make build/spam-corpus/.unpacked gets it by npm): nothing is measured.")
        return
    f, at = Filter(), threshold()
    everything = set(range(len(f.messages)))
    even = {i for i in everything if i % 2 == 0}   # every folder has an even number of messages
    print(f"{f.count} messages, {float(f.us_each) / 1000:.3f} ms CPU and {f.features_each} features each; threshold {at}\n")
    print("| learnt | wrongly spam | caught |\n|---|---|---|")
    if "--cross-validate" in sys.argv:
        scores = f.cross_validated(even)
        show("nine tenths of the even half, in turn", scores, f.is_spam, at)
        show_curve(scores, f.is_spam)
        return
    first = f.scores(even, everything - even)
    show("even half", first, f.is_spam, at)
    show("odd half", f.scores(everything - even, even), f.is_spam, at)
    for seed in range(1, SPLITS_BY_CHANCE + 1):
        half = set(random.Random(seed).sample(sorted(everything), len(everything) // 2))
        show(f"half by chance {seed}", f.scores(half, everything - half), f.is_spam, at)
    show_curve(first, f.is_spam)


if __name__ == "__main__":
    main()
