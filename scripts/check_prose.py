#!/usr/bin/env python3
"""Checks the wording of the repository against scripts/glossary.yml. Part of `make lint`.

It refuses words that the glossary replaces, in code as well as in prose, and names of tasks and plays that don't follow
CONTRIBUTING.md. It limits how often some words occur per 1,000 words of docs and of comments.
"""

import argparse
import fnmatch
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
GLOSSARY = ROOT / "scripts" / "glossary.yml"
CODE_BLOCK = re.compile(r"^( *)(```|~~~).*?^ *\2 *$", re.DOTALL | re.MULTILINE)
# A comment, or the text of a task's name or an option's description, in all files but Python's.
COMMENT = re.compile(r"(?:^|\s)(?:#|--)\s(.*)$|^\s*(?:- )?(?:name|description|short_description):\s(.*)$", re.MULTILINE)
JINJA_COMMENT = re.compile(r"\{#(.*?)#\}", re.DOTALL)
YAML_NAME = re.compile(r"^\s*(?:- )?([A-Za-z][\w-]*):|\b\w+_\w+\b", re.MULTILINE)
WRITE_PLAY = "name the play `Group: action`, as `Redis: install and configure`"
WRITE_TASK = "begin the name of a task with a verb of scripts/glossary.yml, as `Configure`"
PLAY_NAME = re.compile(r"[A-Z][^:]*: [a-z]")
TASK_LISTS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
TASK_FILES = (
    "site.yml",
    "playbooks/*.yml",
    "roles/*/tasks/*.yml",
    "roles/*/handlers/*.yml",
    "molecule/*.yml",
    "tests/*.yml",
)
NOT_TASK_FILES = ("*/vars/*", "*/group_vars/*", "*/molecule.yml", "*/inventory/*")
COMMENTED = {".yml", ".yaml", ".j2", ".sh", ".lua", ".conf", ".service", ".socket", ".cfg", ".toml", ".in", ""}


@dataclass(frozen=True)
class Problem:
    """A wording that `make lint` refuses. line is 0 for the name of the file itself."""

    path: str
    line: int
    found: str
    write: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path} (its name)"
        return f'{place}: "{self.found}": {self.write}'


@dataclass(frozen=True)
class Rule:
    """A pattern of words to refuse, and the words to use instead; glossary.yml describes the fields."""

    pattern: str
    write: str
    scope: str = "all"
    exceptions: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    not_in: tuple[str, ...] = ()

    @cached_property
    def regex(self) -> re.Pattern[str]:
        # Two words can be separated by a line break and the mark of a comment.
        pattern = self.pattern.replace(" ", r"[\s#-]+")
        return re.compile(rf"\b(?:{pattern})(?!\w)", re.IGNORECASE)

    @cached_property
    def allowed(self) -> re.Pattern[str] | None:
        return re.compile("|".join(self.exceptions), re.MULTILINE) if self.exceptions else None

    def applies_to(self, path: str) -> bool:
        """Return whether the file is to be checked for this rule."""
        return (not self.only or matches(path, self.only)) and not matches(path, self.not_in)

    def find(self, text: str) -> Iterator[tuple[int, str]]:
        """Yield line number and words of each refused use in the text."""
        if self.allowed:
            text = self.allowed.sub(lambda found: blank(found[0]), text)
        text = split_words(text)
        for found in self.regex.finditer(text):
            yield text.count("\n", 0, found.start()) + 1, " ".join(found[0].replace("#", " ").split())


@dataclass
class Limit:
    """How often a pattern may occur in 1,000 words."""

    pattern: str
    most: float

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(rf"\b(?:{self.pattern})\b", re.IGNORECASE)


@dataclass
class Glossary:
    """The content of glossary.yml."""

    limits: dict[str, Limit]
    ignore: tuple[str, ...]
    verbs: frozenset[str]
    rules: list[Rule]

    @classmethod
    def read(cls, path: Path = GLOSSARY) -> "Glossary":
        """Return the glossary of a YAML file."""
        return cls.parse(yaml.safe_load(path.read_text()))

    @classmethod
    def parse(cls, content: dict[str, Any]) -> "Glossary":
        """Return the glossary of the parsed YAML."""
        rules = [
            Rule(
                pattern=word["pattern"],
                write=word["write"],
                scope=word.get("scope", "all"),
                exceptions=tuple(word.get("except", ())),
                only=tuple(word.get("only", ())),
                not_in=tuple(word.get("not_in", ())),
            )
            for word in content["words"]
        ]
        limits = {name: Limit(**limit) for name, limit in content["limits"].items()}
        return cls(limits, tuple(content["ignore"]), frozenset(content["verbs"]), rules)


@dataclass
class Count:
    """Words and limited words of one kind of text in a file."""

    words: int = 0
    limited: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Count") -> None:
        """Add the numbers of another file."""
        self.words += other.words
        self.limited.update(other.limited)

    def per_thousand(self, name: str) -> float:
        """Return the rate of a limited word."""
        return 1000 * self.limited[name] / max(self.words, 1)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a path matches one of the file patterns; `*` also matches slashes."""
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def blank(text: str) -> str:
    """Return spaces and line breaks in the place of a text, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", text)


@lru_cache(8)
def split_words(text: str) -> str:
    """Return the text with spaces between the words of snake_case and CamelCase names."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text.replace("_", " "))


def keep(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return the text with everything outside of the spans (start, end) blanked."""
    parts, position = [], 0
    for start, end in sorted(spans):
        if start >= position:
            parts += [blank(text[position:start]), text[start:end]]
            position = end
    return "".join([*parts, blank(text[position:])])


def python_spans(text: str) -> dict[str, list[tuple[int, int]]]:
    """Return the spans of names, comments, docstrings and other strings of Python source, by these words."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    spans: dict[str, list[tuple[int, int]]] = {"names": [], "comments": [], "docstrings": [], "strings": []}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            span = (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1])
            if token.type == tokenize.NAME:
                spans["names"].append(span)
            elif token.type == tokenize.COMMENT:
                spans["comments"].append(span)
            elif token.type == tokenize.STRING:
                spans["docstrings" if token.string.lstrip("rR").startswith('"""') else "strings"].append(span)
    except (SyntaxError, tokenize.TokenError):
        pass  # ruff reports it
    return spans


def scopes(path: str, text: str) -> dict[str, str]:
    """Return the text of a file by scope (all, names, prose, counted), with the rest of the text blanked."""
    suffix = Path(path).suffix
    if suffix == ".md":
        return {"all": text, "names": blank(text), "prose": text, "counted": CODE_BLOCK.sub(" ", text)}
    if suffix in {".py", ".pyi"}:
        spans = python_spans(text)
        counted = spans["comments"] + spans["docstrings"]
        return {
            "all": text,
            "names": keep(text, spans["names"]),
            "prose": keep(text, counted + spans["strings"]),
            "counted": keep(text, counted),
        }
    if suffix not in COMMENTED:
        return {"all": text, "names": blank(text), "prose": text, "counted": ""}
    comments = [found.span(1 if found[1] is not None else 2) for found in COMMENT.finditer(text)]
    comments += [found.span(1) for found in JINJA_COMMENT.finditer(text)]
    names = [found.span(1 if found[1] else 0) for found in YAML_NAME.finditer(text)]
    prose = keep(text, comments)
    return {"all": text, "names": keep(text, names), "prose": prose, "counted": prose}


def task_problems(path: str, text: str, verbs: frozenset[str]) -> Iterator[Problem]:
    """Yield the names of tasks and plays in a YAML file that don't follow CONTRIBUTING.md."""
    try:
        document = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return  # yamllint reports it
    yield from _name_problems(path, document, verbs)


def _name_problems(path: str, node: yaml.Node | None, verbs: frozenset[str]) -> Iterator[Problem]:
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _name_problems(path, item, verbs)
    elif isinstance(node, yaml.MappingNode):
        entries = {key.value: value for key, value in node.value}
        name = entries.get("name")
        if isinstance(name, yaml.ScalarNode) and "import_playbook" not in entries and len(entries) > 1:
            line = name.start_mark.line + 1
            verb = name.value.split(" ")[0]
            if "hosts" in entries:
                if verb not in verbs and not PLAY_NAME.match(name.value):
                    yield Problem(path, line, name.value, WRITE_PLAY)
            elif verb not in verbs:
                yield Problem(path, line, verb, WRITE_TASK)
        for each in TASK_LISTS:
            yield from _name_problems(path, entries.get(each), verbs)


def is_task_file(path: str) -> bool:
    """Return whether a file holds plays or tasks."""
    return matches(path, TASK_FILES) and not matches(path, NOT_TASK_FILES)


def check(path: str, text: str, glossary: Glossary) -> tuple[list[Problem], Count]:
    """Check one file.

    path: relative to the root of the repository. Returns the problems, and the words of its docs or comments.
    """
    by_scope = scopes(path, text)
    name = str(Path(path).with_suffix(""))
    problems = []
    for rule in glossary.rules:
        if not rule.applies_to(path):
            continue
        write = f"write {rule.write}"
        if rule.scope != "prose":
            problems += [Problem(path, 0, found, write) for _line, found in rule.find(name)]
        problems += [Problem(path, line, found, write) for line, found in rule.find(by_scope[rule.scope])]
    if is_task_file(path):
        problems += task_problems(path, text, glossary.verbs)
    counted = by_scope["counted"]
    count = Count(len(re.findall(r"[A-Za-z']+", counted)))
    for each, limit in glossary.limits.items():
        count.limited[each] = len(limit.regex.findall(counted))
    return sorted(problems, key=lambda problem: problem.line), count


def repository_files(root: Path) -> list[str]:
    """Return the paths of all files of the repository, committed or not, without those that git ignores."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout
    return sorted(path for path in set(listed.split("\0")) if path and (root / path).is_file())


def check_tree(root: Path, glossary: Glossary) -> tuple[list[Problem], dict[str, Count]]:
    """Check all files of a repository. Returns the problems, and the counts by file."""
    problems: list[Problem] = []
    counts: dict[str, Count] = {}
    for path in repository_files(root):
        if matches(path, glossary.ignore) or (root / path).is_symlink():
            continue
        try:
            text = (root / path).read_text()
        except UnicodeDecodeError:
            continue
        found, counts[path] = check(path, text, glossary)
        problems += found
    return problems, counts


def totals(counts: dict[str, Count]) -> dict[str, Count]:
    """Return the counts of docs and of comments."""
    sums = {"docs": Count(), "comments": Count()}
    for path, count in counts.items():
        sums["docs" if path.endswith(".md") else "comments"].add(count)
    return sums


def summary(problems: list[Problem], counts: dict[str, Count], glossary: Glossary) -> str:
    """Return a table of the files with refused or limited words, the most first."""
    refused = Counter(problem.path for problem in problems)
    rows = [(refused[path], sum(count.limited.values()), path) for path, count in counts.items()]
    lines = [f"{'refused':>8}" + "".join(f"{name:>6}" for name in glossary.limits) + f"{'words':>7}  file"]
    for number, limited, path in sorted(rows, key=lambda row: (-row[0] - row[1], row[2])):
        if number or limited:
            count = counts[path]
            numbers = "".join(f"{count.limited[name]:>6}" for name in glossary.limits)
            lines.append(f"{number:>8}{numbers}{count.words:>7}  {path}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print problems and counts. Returns the exit status: 1 if something is refused or a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--summary", action="store_true", help="print numbers by file instead of each problem")
    parser.add_argument("patterns", nargs="*", help="files to report, such as 'roles/nginx/*'; default: all")
    options = parser.parse_args(arguments)
    glossary = Glossary.read()
    problems, counts = check_tree(ROOT, glossary)
    if options.patterns:
        problems = [problem for problem in problems if matches(problem.path, options.patterns)]
        counts = {path: count for path, count in counts.items() if matches(path, options.patterns)}
    if options.summary:
        print(summary(problems, counts, glossary))
    else:
        for problem in problems:
            print(problem)
    exceeded = False
    for kind, count in totals(counts).items():
        rates = []
        for name, limit in glossary.limits.items():
            rate = count.per_thousand(name)
            exceeded |= rate > limit.most
            rates.append(f"{name} {rate:.1f} (limit {limit.most})")
        print(f"{kind}: {count.words} words, per 1,000: {', '.join(rates)}")
    print(f"{len(problems)} refused words or names (scripts/glossary.yml)")
    return int(bool(problems) or exceeded)


if __name__ == "__main__":
    sys.exit(main())
