"""Test that no template reaches Python, changes what it is given, or grows without bound."""

from __future__ import annotations

import copy
import threading
import time
import tracemalloc
from typing import Any

import pytest
from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError

from streamcore.files.sandbox import MAX_TEXT, Sandbox

NAMES: dict[str, Any] = {
    "word": "abc",
    "words": ["a", "b"],
    "data": {"a": 1, "b": [2]},
    "big": "x" * (MAX_TEXT - 100),
    "lines": "y\n" * 100_000,
    "odd": {"items": ["a", "k"], "keys": "k", "get": "get"},
}

sandbox = Sandbox()

GROWS = "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = "

ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ '{0.__class__}'.format(word) }}",
    "{{ '{0[__class__]}'.format(word) }}",
    "{{ '{a.__init__}'.format_map({'a': word}) }}",
    "{{ [word] | map(attribute='__class__') | list }}",
    "{{ range.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ self.__init__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "{% for x in words %}{{ loop.__class__ }}{% endfor %}",
]
CHANGES = [
    "{{ words.append(1) }}",
    "{{ words.clear() }}",
    "{{ words.sort() }}",
    "{{ data.update(a=2) }}",
    "{{ data.pop('a') }}",
    "{{ data.setdefault('c', 1) }}",
    "{{ data.b.insert(0, 1) }}",
    "{% set words.x = 1 %}",
]
BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [0] * 10**9 }}",
    "{{ (0,) * 10**9 }}",
    "{{ [big] * 100 }}",
    "{{ 2 ** (10**9) }}",
    "{{ ((10**1000) * (10**1000)) }}",
    "{{ big + big }}",
    "{{ big ~ big }}",
    "{{ big }}{{ big }}",
    "{{ range(10**9) | list }}",
    "{% for i in range(10**9) %}{% endfor %}",
    "{{ lipsum(n=10**9) }}",
    # Padding, by method and by filter.
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.rjust(10**9, '-') }}",
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ '\\t'.expandtabs(10**9) }}",
    "{{ (1).to_bytes(10**9, 'big') }}",
    "{{ 'a'.encode().ljust(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a' | center(width=10**9) }}",
    "{{ words | map('center', 10**9) | list }}",
    "{{ 'a\\nb' | indent(10**9) }}",
    "{{ lines | indent(999) }}",
    "{{ 'a\\nb' | indent(big) }}",
    "{{ words | tojson(indent=10**9) }}",
    "{{ words | batch(10**9, 'x') | list }}",
    "{{ words | slice(10**9) | list }}",
    "{{ 5 | round(-10**9) }}",
    # Much out of little.
    "{{ lines.replace('y', lines) }}",
    "{{ lines | replace('y', lines) }}",
    "{{ lines | replace(new=lines, old='y') }}",
    "{{ big.translate({120: big}) }}",
    "{{ range(9999) | join(big) }}",
    "{{ big.join(words * 9999) }}",
    "{{ ('-' * 5000).join(range(9999) | map('string')) }}",
    "{{ words | map('replace', '', big) | join }}",
    # Formats.
    "{{ '%1000000000d' % 1 }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%.1000000000f' | format(1.0) }}",
    "{{ '%(a(b))1000000000d' | format(1) }}",
    "{{ '%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s' | format(a=big) }}",
    "{{ '%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s' % {'a': big} }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{{ '{:>{w}}'.format(1, w=10**9) }}",
    "{{ '{0}{0}'.format(big) }}",
    # A little more at every turn, or in every line.
    GROWS + "n.x ~ n.x %}{% endfor %}{{ n.x | length }}",
    GROWS + "n.x + n.x %}{% endfor %}{{ n.x | length }}",
    GROWS + "n.x * 2 %}{% endfor %}{{ n.x | length }}",
    GROWS + "[n.x, n.x] %}{% endfor %}{{ n.x }}",
    GROWS + "(n.x, n.x) %}{% endfor %}{{ n.x }}",
    GROWS + "{'a': n.x, 'b': n.x} %}{% endfor %}{{ n.x }}",
    GROWS + "dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    GROWS + "n.x | replace('a', 'aa') %}{% endfor %}{{ n.x | length }}",
    GROWS + "'%s%s' % (n.x, n.x) %}{% endfor %}{{ n.x | length }}",
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
    "{% set a0 = [1] %}" + "".join(f"{{% set a{n + 1} = [a{n}, a{n}] %}}" for n in range(60)) + "{{ a60 }}",
    # Turns of loops and macros, with and without output.
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set x %}{% for a in range(99999) %}{{ big }}{% endfor %}{% endset %}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% for x in words recursive %}{{ loop(words) }}{% endfor %}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
]


@pytest.mark.parametrize("text", ESCAPES)
def test_python_is_out_of_reach(text: str) -> None:
    with pytest.raises(TemplateError):
        sandbox.render(text, NAMES)


@pytest.mark.parametrize("text", CHANGES)
def test_nothing_is_changed(text: str) -> None:
    before = copy.deepcopy(NAMES)
    with pytest.raises(TemplateError):
        sandbox.render(text, NAMES)
    assert before == NAMES


@pytest.mark.parametrize("text", BOMBS, ids=lambda text: text[:60])
def test_bombs_are_refused(text: str) -> None:
    started = time.process_time()
    with pytest.raises((TemplateError, ArithmeticError, RecursionError)):
        sandbox.render(text, NAMES)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("text", [text for text in BOMBS if text.startswith("{{")], ids=lambda text: text[:60])
def test_one_operation_is_refused_before_it_allocates(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((TemplateError, ArithmeticError, RecursionError)):
            sandbox.render(text, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_limit_is_4_mib() -> None:
    for text in (
        "{{ 'x' * n }}",
        "{{ ('x' * (n - 1)) ~ '' }}x",
        "{% for i in range(4) %}{{ 'x' * (n // 4) }}{% endfor %}",
    ):
        assert sandbox.render(text, {"n": 4_194_304 - 32}) == "x" * (4_194_304 - 32)
        with pytest.raises(TemplateError, match="the limit is 4194304"):
            sandbox.render(text + "x" * 33, {"n": 4_194_304 - 32})
    assert sandbox.render("{{ 'x' * 4194304 }}", {}) == "x" * 4_194_304
    with pytest.raises(TemplateError):
        sandbox.render("{{ ('x' * 4194305) | length }}", {})


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("{{ 'a'.ljust(1000) | length }}", "{{ 'a'.ljust(1001) | length }}"),
        ("{{ ('%999d' % 1) | length }}", "{{ ('%1000d' % 1) | length }}"),
        ("{{ '{:999}'.format(1) | length }}", "{{ '{:1000}'.format(1) | length }}"),
        ("{{ (2 ** 2000) > 0 }}", "{{ (2 ** 2049) > 0 }}"),
        ("{% for i in range(100000) %}{% endfor %}", "{% for i in range(100001) %}{% endfor %}"),
    ],
)
def test_limits(text: str, refused: str) -> None:
    assert sandbox.render(text, {}) in ("1000", "999", "True", "")
    with pytest.raises((TemplateError, ArithmeticError)):
        sandbox.render(refused, {})


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("{{ 'a' * 3 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ 1 + 1 }}{{ 'a' + 'b' }}{{ [1] + [2] }}", "aaa102432ab[1, 2]"),
        ("{{ 'a' ~ 1 ~ words }}", "a1['a', 'b']"),
        ("{{ [1, 2] }}{{ (1, 2) }}{{ {'a': 1} }}{{ dict(a=1) }}", "[1, 2](1, 2){'a': 1}{'a': 1}"),
        ("{% set a, b = 1, 2 %}{{ b }}{% for k, v in [(1, 2)] %}{{ v }}{% endfor %}", "22"),
        ("{{ word.ljust(5) }}|{{ word | center(7) }}|{{ word.zfill(5) }}", "abc  |  abc  |00abc"),
        ("{{ word.replace('a', 'x') }}{{ word | replace('b', '') }}", "xbcac"),
        ("{{ ', '.join(words) }} {{ words | join('-') }} {{ words | map('upper') | join }}", "a, b a-b AB"),
        ("{{ [data] | join(', ', attribute='a') }}", "1"),
        ("{{ '%.2f' | format(3.14159) }} {{ '%s-%s' % (1, 'a') }} {{ '%(a)05d%%' | format(a=7) }}", "3.14 1-a 00007%"),
        ("{{ '{:.1f} {a} {b[0]}'.format(1.25, a='b', b=words) }}", "1.2 b a"),
        ("{{ {'a': [1]} | tojson }}{{ words | tojson(indent=2) }}", '{"a": [1]}[\n  "a",\n  "b"\n]'),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b"),
        ("{{ words | first }}{{ words | last }}{{ words | length }}{{ words[::-1] }}{{ word[1:] }}", "ab2['b', 'a']bc"),
        (
            "{{ data.items() | list }}{{ data.keys() | list }}{{ data.get('z', 0) }}",
            "[('a', 1), ('b', [2])]['a', 'b']0",
        ),
        ("{{ range(5) | batch(2, 'x') | list }}", "[[0, 1], [2, 3], [4, 'x']]"),
        ("{{ words | sort(reverse=true) }}{{ [3, 1] | sum }}{{ 1.256 | round(2) }}", "['b', 'a']41.26"),
        ("{% set n = namespace(c=0) %}{% for x in range(9) %}{% set n.c = n.c + x %}{% endfor %}{{ n.c }}", "36"),
        ("{% macro m(x, y=2) %}<{{ x }}{{ y }}>{% endmacro %}{{ m(1) }}{{ m('a', y='b') }}", "<12><ab>"),
        ("{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}x{% endcall %}", "<x>"),
        ("{% filter upper %}a{{ word }}{% endfilter %}", "AABC"),
        ("{% for x in words %}{{ loop.index }}/{{ loop.length }}{{ ' ' if not loop.last }}{% endfor %}", "1/2 2/2"),
        ("{% for x in [[1], [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
        (
            "{% for x in words %}{{ loop.cycle('o', 'e') }}{% endfor %}{% for x in [] %}{% else %}none{% endfor %}",
            "oenone",
        ),
        ("{% set x %}a{{ word }}{% endset %}{{ x }}", "aabc"),
        ("{{ nobody | default('d') }}{{ nobody is defined }}{{ [nobody] | select('defined') | join }}", "dFalse"),
        ("{{ none }}{{ true }}{{ 1.5 }}", "NoneTrue1.5"),
        ("{{ 5000 + 5000 }} {{ 5000 % 4999 }} {{ 5000 - 5000 }}", "10000 1 0"),
        (
            "{{ [odd.items | length, {'a': odd.keys}, (odd.get,)] }} {{ odd.items() | length }}",
            "[2, {'a': 'k'}, ('get',)] 3",
        ),
        ("{{ odd.items.count('a') }}{{ odd.items.index(odd.keys) }}{{ odd.get.upper() }}", "11GET"),
        ("{{ big | length }}{{ (big ~ '.') | length }}", f"{MAX_TEXT - 100}{MAX_TEXT - 99}"),
    ],
)
def test_features_for_prompts_work_as_in_jinja(text: str, written: str) -> None:
    assert sandbox.render(text, NAMES) == written


@pytest.mark.parametrize("text", ["{{ nobody }}", "{{ data.z }}", "{{ [nobody] }}", "{{ 'a' ~ {'b': nobody} }}"])
def test_undefined_values_are_never_written(text: str) -> None:
    with pytest.raises(UndefinedError):
        sandbox.render(text, NAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ word.upper }}", "'upper' is a function, not a value; call it with"),
        ("{{ data.items }}", "'items' is a function"),
        ("{{ words | map('upper') }}", "end it with | join"),
        ("{{ range(3) }}", "a range cannot be written"),
        ("{{ self }}", "cannot be written"),
        ("{{ namespace(a=1) }}", "cannot be written"),
    ],
)
def test_only_data_is_written(text: str, said: str) -> None:
    with pytest.raises(SecurityError, match=said):
        sandbox.render(text, NAMES)


def test_the_limit_is_for_each_run() -> None:
    loop = "{% for i in range(40000) %}{% endfor %}"
    assert [sandbox.render(loop, {}) for _ in range(20)] == [""] * 20


def test_runs_in_threads_do_not_share_their_limit() -> None:
    loop = "{% for i in range(99000) %}{% endfor %}" * 2
    failed: list[Exception] = []

    def run() -> None:
        try:
            sandbox.render(loop, {})
        except TemplateError as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_guards_cannot_be_named_by_a_template() -> None:
    for text in ("{{ 1 | kept }}", "{{ 1 | turn }}", "{{ 1 |  turn }}"):
        with pytest.raises(TemplateSyntaxError):
            sandbox.render(text, {})


def test_the_line_of_an_error_is_the_templates() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        sandbox.render("a\n{% if true %}\n\n{{ 1 / 0 }}{% endif %}", {})
    trace = caught.value.__traceback__
    lines = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    assert lines[-1] == 4
