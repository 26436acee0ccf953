#!/usr/bin/env python3
"""Turns sql/queries/*.sql and sql/migrations/NNNN_name.sql into C.

    python3 sql/embed.py OUTDIR

writes OUTDIR/sql_queries.h, sql_queries.c and sql_migrations.c, each only when its text changed. A query is

    -- name: mailbox_by_path :one
    -- The caller has already folded INBOX to upper case.
    SELECT ... WHERE account_id = $1 AND path = $2;

one statement per name; :one, :maybe, :many or :exec (server/pg/pg.h says what they mean). Comments stay here.
Nothing of the SQL's meaning is checked: a unit test prepares every query against a fresh schema.
"""
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
NAME = re.compile(r"--\s*name:\s*(.*?)\s*$")
NAME_PARTS = re.compile(r"([a-z][a-z0-9_]*)\s+:(one|maybe|many|exec)$")
MIGRATION = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql$")

# Whatever may hide a semicolon or a dollar sign comes first.
TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?\*/)
      | (?P<quoted>\b[eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                   | \$(?P<tag>[A-Za-z_]\w*|)\$.*?\$(?P=tag)\$)
      | (?P<param>\$\d+)
      | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)


class Errors:
    """Collects every complaint, so that one run shows them all."""

    def __init__(self):
        self.count = 0

    def add(self, path, line, text):
        self.count += 1
        print(f"{path.relative_to(HERE.parent)}:{line}: {text}", file=sys.stderr)


class Query:
    def __init__(self, name, result, path, line):
        self.name, self.result, self.path, self.line = name, result, path, line
        self.lines = []
        self.text = ""
        self.param_count = 0

    def settle(self, errors):
        """Drops comments and the closing semicolon, counts the parameters."""
        source = "\n".join(self.lines)
        params, ends, kept, at = set(), [], [], 0
        for token in TOKEN.finditer(source):
            kept.append(source[at:token.start()])
            at = token.end()
            if token["comment"]:
                continue
            if token["param"]:
                params.add(int(token["param"][1:]))
            if token["end"]:
                ends.append(len("".join(kept)))
            kept.append(token[0])
        kept.append(source[at:])
        text = "".join(kept)

        if len(ends) != 1 or text[ends[0] + 1:].strip():
            errors.add(self.path, self.line, f"{self.name}: must be one statement that ends with ';'")
            return
        text = text[:ends[0]]
        self.text = "\n".join(line.rstrip() for line in text.split("\n") if line.strip())
        if not self.text:
            errors.add(self.path, self.line, f"{self.name}: has no statement")
        self.param_count = len(params)
        if params != set(range(1, len(params) + 1)):
            errors.add(self.path, self.line, f"{self.name}: parameters must be numbered from $1 without a gap")


def read_queries(errors):
    queries, seen = [], {}
    for path in sorted((HERE / "queries").glob("*.sql")):
        query = None
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            head = NAME.match(line)
            if head is None:
                if query is not None:
                    query.lines.append(line)
                elif line.strip() and not line.startswith("--"):
                    errors.add(path, number, "statement without a '-- name: ...' line before it")
                continue
            parts = NAME_PARTS.match(head[1])
            if parts is None:
                errors.add(path, number, "write '-- name: some_name :one' (or :maybe, :many, :exec)")
                query = Query("unnamed", "exec", path, number)     # takes the lines; never settled
                continue
            query = Query(parts[1], parts[2], path, number)
            if query.name in seen:
                first = seen[query.name]
                errors.add(path, number, f"{query.name}: is also in {first.path.name}:{first.line}")
            seen.setdefault(query.name, query)
            queries.append(query)
    for query in queries:
        query.settle(errors)
    return queries


def read_migrations(errors):
    found = {}
    for path in sorted((HERE / "migrations").glob("*.sql")):
        match = MIGRATION.match(path.name)
        if match is None:
            errors.add(path, 1, "name it NNNN_what_it_does.sql")
            continue
        number = int(match[1])
        if number == 0 or number in found:
            errors.add(path, 1, f"number {match[1]} is taken or zero")
            continue
        found[number] = (match[2], path.read_text(encoding="utf-8"))
    return [(number, *found[number]) for number in sorted(found)]


def c_bytes(text):
    out = []
    for byte in text.encode("utf-8"):
        char = chr(byte)
        if char in '"\\':
            out.append("\\" + char)
        elif 32 <= byte < 127:
            out.append(char)
        else:
            out.append(f"\\{byte:03o}")
    return "".join(out)


def c_literal(text):
    """One C string per line of SQL, so that a debugger and a reader of the file see its shape."""
    lines = text.split("\n")
    return "\n".join(
        '    "' + c_bytes(line) + ("\\n" if at + 1 < len(lines) else "") + '"' for at, line in enumerate(lines)
    )


def queries_header(queries):
    lines = [
        "/* sql_queries.h - made by sql/embed.py from sql/queries/; do not edit. */",
        "#pragma once",
        '#include "server/pg/pg.h"',
        "",
        "extern const struct sql_query *const sql_queries[];",
        "extern const unsigned sql_query_count;",
        "",
    ]
    lines += [f"extern const struct sql_query sql_{q.name};" for q in queries]
    return "\n".join(lines) + "\n"


def queries_source(queries):
    lines = [
        "/* sql_queries.c - made by sql/embed.py from sql/queries/; do not edit. */",
        '#include "sql_queries.h"',
        "",
    ]
    for index, q in enumerate(queries):
        lines += [
            f"const struct sql_query sql_{q.name} = {{",
            f'    "{q.name}",',
            c_literal(q.text) + ",",
            f"    SQL_{q.result.upper()}, {index}, {q.param_count},",
            "};",
            "",
        ]
    lines += ["const struct sql_query *const sql_queries[] = {"]
    lines += [f"    &sql_{q.name}," for q in queries]
    lines += ["    NULL,", "};", f"const unsigned sql_query_count = {len(queries)};"]
    return "\n".join(lines) + "\n"


def migrations_source(migrations):
    lines = [
        "/* sql_migrations.c - made by sql/embed.py from sql/migrations/; do not edit. */",
        "#include <stddef.h>",
        '#include "server/pg/migrate.h"',
        "",
        "const struct sql_migration sql_migrations[] = {",
    ]
    for number, name, text in migrations:
        lines += [f'    {{{number}, "{name}",', c_literal(text) + "},"]
    lines += ["    {0, NULL, NULL},", "};", f"const int sql_migration_count = {len(migrations)};"]
    return "\n".join(lines) + "\n"


def write_if_changed(path, text):
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main():
    if len(sys.argv) != 2:
        print("usage: embed.py OUTDIR", file=sys.stderr)
        return 2
    errors = Errors()
    queries = read_queries(errors)
    migrations = read_migrations(errors)
    if errors.count:
        return 1
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    write_if_changed(out / "sql_queries.h", queries_header(queries))
    write_if_changed(out / "sql_queries.c", queries_source(queries))
    write_if_changed(out / "sql_migrations.c", migrations_source(migrations))
    return 0


if __name__ == "__main__":
    sys.exit(main())
