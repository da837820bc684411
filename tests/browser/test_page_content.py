"""Test in a real Chromium how the chat page renders an answer: code, mathematics, tables; and that nothing runs."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, Simulator
from tests.browser.test_chat_page import HACK, chat, over, plain, say

pytestmark = [pytest.mark.real, pytest.mark.long]
ASSETS = Path(__file__).resolve().parents[2] / "streamcore" / "web" / "assets"
CONTENT = r"""The sum is $\sum_{i=1}^n i$, a gap $a\,b$, and it costs $5 or $10. Also \(x_1\,y\) and \[ \frac{1}{2} \]

$$
\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}
$$

```python
def greet(name: str) -> str:
    return f"<b>{name}</b>"
```

- [x] done
- [ ] to do

| a | b |
|---|--:|
| 1 | `2` |
| 3 | 4 |
"""
HOSTILE_CONTENT = [
    rf"$\href{{javascript:{HACK}}}{{x}}$ $\url{{javascript:{HACK}}}$ $\htmlData{{onclick={HACK}}}{{x}}$ ",
    r"$\includegraphics{https://outside.example/i.png}$ $\htmlStyle{position:fixed}{x}$ ",
    rf"$<img src=x onerror={HACK}>$ $$</code><script>{HACK}</script>$$ \(<svg onload={HACK}>\) ",
    r"$\def\a{\a\a}\a$ $\newcommand{\b}{\b\b}\b$ $\rule{9999em}{9999em}$ ",
    f"\n\n```html\n<script>{HACK}</script><img src=x onerror={HACK}>\n```\n\n",
    f'```python" onload={HACK} class="\nx = 1\n```\n\n```<script>{HACK}</script>\ny\n```\n\n',
    f"![x](data:image/svg+xml;base64,PHN2Zy8+) ![y](data:text/html,<script>{HACK}</script>) ",
    f'![z](data:image/png;base64,iVBORw0KGgo=) ![w](data:image/png;base64,AA==" onerror="{HACK})\n\n',
    f"| <img src=x onerror={HACK}> | $<b>$ |\n|---|---|\n| [a](javascript:{HACK}) | `<script>` |\n\n",
]
PATHOLOGICAL = {
    "dollars": "$" * 20_000,
    "dollar words": "$a " * 8_000,
    "open formulas": r"\(" * 8_000,
    "open blocks": "\n$$\nx" * 4_000,
    "braces": "$" + "{" * 2_900 + "}" * 2_900 + "$",
    "fences": "```python\n" * 2_000,
    "pipes": "|" * 20_000,
    "wide table": "|a" * 500 + "|\n" + "|-" * 500 + "|\n" + ("|b" * 500 + "|\n") * 5,
    "brackets": "![" * 5_000,
    "emphasis": "*a_" * 5_000,
}


def test_code_mathematics_tables_and_tasks(page: Page) -> None:
    with Simulator(Answer(list(CONTENT))) as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        expect(page.locator(".math .katex")).to_have_count(5)
        expect(page.locator(".math.display")).to_have_count(2)
        expect(page.locator(".answer .body")).to_contain_text("it costs $5 or $10.")
        assert r"a\,b" in page.locator('[role="math"]').nth(1).get_attribute("aria-label")  # type: ignore[operator]
        expect(page.locator(".bar span")).to_have_text("python")
        expect(page.locator(".hljs-keyword").first).to_have_text("def")
        assert page.locator("pre code").text_content() == 'def greet(name: str) -> str:\n    return f"<b>{name}</b>"\n'
        expect(page.locator(".task")).to_have_text(["☑", "☐"])
        expect(page.locator(".scroll td")).to_have_text(["1", "2", "3", "4"])
        assert plain(page) == CONTENT


def test_a_table_grows_by_rows_and_is_never_shown_as_text(page: Page) -> None:
    rows = [f"| row {number} | {'wide' * 30} |\n" for number in range(60)]
    text = "Look:\n\n| first | second |\n|---|---|\n" + "".join(rows)
    with Simulator(Answer([text[start : start + 3] for start in range(0, len(text), 3)]), rate=2000) as simulator:
        page.set_viewport_size({"width": 320, "height": 640})
        with chat(page, simulator):
            page.evaluate(
                """() => {
                  window.raw = 0;
                  const look = () => {
                    for (const one of document.querySelectorAll(".answer p")) {
                      if (one.textContent.includes("|")) window.raw += 1;
                    }
                  };
                  const what = { subtree: true, childList: true, characterData: true };
                  new MutationObserver(look).observe(document.getElementById("log"), what);
                }"""
            )
            say(page, "x")
            expect(page.locator(".scroll td").first).to_have_text("row 0")
            page.locator(".scroll").evaluate("box => { box.scrollLeft = 200; box.mark = 'kept'; }")
            over(page)
            expect(page.locator(".scroll tr")).to_have_count(61)
            assert page.locator(".scroll").evaluate("box => [box.scrollLeft > 100, box.mark]") == [True, "kept"]
            assert page.evaluate("window.raw") == 0
            assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("size", [1, 7])
def test_hostile_content_runs_nothing(page: Page, size: int) -> None:
    text = "".join(HOSTILE_CONTENT)
    with Simulator(Answer([text[start : start + size] for start in range(0, len(text), size)])) as simulator:
        with chat(page, simulator):
            say(page, "x")
            over(page)
            expect(page.locator(".math").first).to_be_attached()
            assert page.locator("main :is(script, iframe, style, form)").count() == 0
            sources = page.locator("main img").evaluate_all("found => found.map((one) => one.src)")
            assert all(source.startswith("data:image/png;base64,") for source in sources)
            links = page.locator("main .body a").evaluate_all("found => found.map((one) => one.href)")
            assert all(link.startswith(("http://", "https://", "mailto:")) for link in links)
            names = page.locator("main *").evaluate_all("found => found.flatMap((one) => one.getAttributeNames())")
            assert not [name for name in names if name.startswith("on")]
            assert plain(page) == text


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_pathological_content_ends(page: Page, name: str) -> None:
    text = PATHOLOGICAL[name]
    pieces = [text[start : start + 1000] for start in range(0, len(text), 1000)]
    with Simulator(Answer(pieces)) as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        assert plain(page) == text


def test_the_first_view_is_small_and_libraries_come_when_needed(page: Page) -> None:
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url.partition("/assets/")[2]))
    with Simulator("Plain text.") as simulator, chat(page, simulator):
        say(page, "x")
        over(page)
        files = {name for name in loaded if name and (ASSETS / name).is_file()}
        assert "app.js" in files
        assert not any(name.startswith(("vendor/katex", "vendor/highlight")) for name in files)
        size = sum(len(gzip.compress((ASSETS / name).read_bytes())) for name in files)
        assert size <= 250_000, size


def test_modules_are_short_and_libraries_have_versions_and_licences() -> None:
    for path in (*ASSETS.glob("*.js"), *ASSETS.glob("texts/*.js")):
        assert len(path.read_text("utf-8").splitlines()) < 250, path.name
    english, german = (
        re.findall(r"^  (\w+): ", (ASSETS / "texts" / name).read_text("utf-8"), re.MULTILINE)
        for name in ("en.js", "de.js")
    )
    assert english == german == sorted(set(english))
    table = (ASSETS / "vendor" / "README.md").read_text("utf-8")
    for path in (ASSETS / "vendor").rglob("*.js"):
        name = path.relative_to(ASSETS / "vendor").as_posix()
        assert re.search(rf"`{name}`.*\d+\.\d+\.\d+.*LICENSE", table), name
        assert path.with_suffix(".LICENSE").is_file()
