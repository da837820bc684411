"""Test in a real Chromium, without the page's content security policy, that no text runs or loads anything."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from streamcore.testing import Answer, Simulator
from tests.browser.test_chat_page import HACK, chat, over, plain, say
from tests.browser.watched_page import watched_page

pytestmark = [pytest.mark.real, pytest.mark.long]
OUTSIDE = "http://outside.example"
SCRIPT = f"<script>{HACK}</script>"
PAYLOADS = [
    SCRIPT,
    f"<SCRIPT SRC={OUTSIDE}/x.js></SCRIPT>",
    f"<img src=x onerror='{HACK}'>",
    f"<img src='{OUTSIDE}/i.png'>",
    f'<img srcset="{OUTSIDE}/s.png 1x">',
    f"<svg onload={HACK}>",
    f"<svg><script>{HACK}</script></svg>",
    f"<svg><a xlink:href='javascript:{HACK}'><text>x</text></a></svg>",
    f"<svg><animate onbegin={HACK} attributeName=x dur=1s></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={HACK}&gt;'>",
    f"<math><mi//xlink:href='data:x,{SCRIPT}'>",
    f"<noscript><p title='</noscript><img src=x onerror={HACK}>'>",
    f"<template><img src=x onerror={HACK}></template>",
    f"<select><template><style><!--</style><a rel='--></style></template></select><img src=x onerror={HACK}>'>",
    f'<iframe srcdoc="{SCRIPT.replace("window", "parent")}"></iframe>',
    f"<iframe src='javascript:parent.{HACK}'></iframe>",
    f"<object data='javascript:{HACK}'></object>",
    f"<embed src='{OUTSIDE}/e.swf'>",
    f"<form action='javascript:{HACK}'><button autofocus>x</button></form>",
    f"<input autofocus onfocus={HACK}>",
    f"<details open ontoggle={HACK}>x</details>",
    f"<video><source onerror={HACK}></video>",
    f"<audio src=x onerror={HACK}>",
    f"<body onload={HACK}>",
    f"<marquee onstart={HACK}>x</marquee>",
    f"<style>@import '{OUTSIDE}/s.css'; *{{background:url({OUTSIDE}/b.png)}}</style>",
    f"<link rel=stylesheet href={OUTSIDE}/s.css>",
    f"<meta http-equiv=refresh content='0;url={OUTSIDE}'>",
    f"<base href='{OUTSIDE}/'>",
    "<form id=log><input name=append><input name=querySelector></form>",
    "<a id=send></a><a id=send name=hidden>x</a>",
    f"<div style='background:url({OUTSIDE}/d.png)'>x</div>",
    f"<!--><img src=x onerror={HACK}>-->",
    f"<![CDATA[<img src=x onerror={HACK}>]]>",
    f"<?xml version='1.0'?><img src=x onerror={HACK}>",
    f"[a](javascript:{HACK}) [b](JaVaScRiPt:{HACK}) [c](java\tscript:{HACK}) [d](\x01javascript:{HACK})",
    f"[e](&#106;avascript:{HACK}) [f](&#x6A;avascript&colon;{HACK}) [g](javascript&#58;{HACK})",
    f"[h](vbscript:{HACK}) [i](data:text/html,{SCRIPT}) [j](data:text/html;base64,PHNjcmlwdD4=) [k](blob:x)",
    f"<javascript:{HACK}> <data:text/html,{SCRIPT}> [l](//outside.example) [m](\\\\outside.example)",
    f"[n][late-{HACK}]\n\n[late-{HACK}]: javascript:{HACK} 'title'",
    f"[o](https://example.org/\"onmouseover='{HACK}) [p](https://example.org 'x\" onmouseover=\"{HACK}')",
    f"![q]({OUTSIDE}/q.png) ![r](javascript:{HACK}) ![s](data:image/svg+xml,<svg onload={HACK}>)",
    f'![t" onerror="{HACK}](data:image/png;base64,AAAA) ![u](data:image/png;base64,AA==" onerror="{HACK})',
    f'```html" onclick="{HACK}\n{SCRIPT}\n```\n\n```{SCRIPT}\n<img src=x onerror={HACK}>\n```',
    f"~~~javascript\n</code></pre><img src=x onerror={HACK}>\n~~~\n\n    {SCRIPT}",
    f'| <img src=x onerror={HACK}> | [a](javascript:{HACK}) |\n|:-"onclick={HACK}|--|\n| {SCRIPT} | `{SCRIPT}` |',
    f"> - # {SCRIPT}\n>   1. <img src=x onerror={HACK}>\n> - [x] <svg onload={HACK}>",
    rf"$\href{{javascript:{HACK}}}{{x}}$ $\url{{javascript:{HACK}}}$ $\htmlData{{onclick={HACK}}}{{x}}$",
    rf"$\includegraphics{{{OUTSIDE}/m.png}}$ $\htmlStyle{{background:url({OUTSIDE})}}{{x}}$ $\htmlId{{log}}{{x}}$",
    rf"$$\text{{{SCRIPT}}}$$ $<img src=x onerror={HACK}>$ \(</span><svg onload={HACK}>\)",
    f'{{"html": "{SCRIPT}", "<img src=x onerror={HACK}>": ["<svg onload={HACK}>"]}}',
]
WIDE = "|a" * 300 + "|\n" + "|-" * 300 + "|\n" + ("|b" * 300 + "|\n") * 5
INPUTS = {
    **{
        repr(one): one * 20_000
        for one in ("$", "`", "*", "_", "~", "[", "]", "(", "!", "<", "&", "|", "#", "\\", "-", "\n")
    },
    "stars": "*a_" * 7_000,
    "links": "[a](" * 5_000,
    "images": "![a](b " * 3_000,
    "references": "[a][b]" * 4_000,
    "definitions": "".join(f"[a{number}]: https://example.org\n" for number in range(800)),
    "autolinks": "https://a.b/" * 2_000,
    "mails": "a@b." * 5_000,
    "tags": "<a href='" * 3_000,
    "comments": "<!--" * 5_000,
    "entities": "&#x41;" * 4_000,
    "quotes": ">" * 4_000 + " deep",
    "quoted lists": "> - " * 800,
    "nested list": "".join("  " * depth + "- x\n" for depth in range(150)),
    "numbers": "".join(f"{number}) x\n" for number in range(2_000)),
    "fences": "```python\n" * 2_000,
    "long fence": "```python\n" + "x = [1]\n" * 6_000,
    "strings": "```python\n" + "'" * 12_000,
    "formulas": r"$\frac{1}{2}$ " * 400,
    "macros": r"$\def\a{\a\a}\a$ $\newcommand{\b}{\b\b}\b$ $\rule{9999em}{9999em}$ " * 20,
    "braces": "$" + "{" * 1_400 + "}" * 1_400 + "$",
    "open blocks": "\n$$\nx" * 4_000,
    "wide table": WIDE,
    "marks": "a" + "\u0301" * 20_000,
    "directions": "\u202e\u2066x" * 7_000,
}
GROW = """async ([texts, size]) => {
  const { Answer } = await import(new URL("assets/answer.js", document.baseURI));
  const log = document.getElementById("log");
  const all = texts.map((text) => ({ text, answer: new Answer({ text: "" }, () => {}) }));
  log.replaceChildren(...all.map(({ answer }) => answer.element));
  const pause = () => new Promise((go) => setTimeout(go));
  for (let at = 0; all.some(({ text }) => at < text.length); at += size) {
    for (const { text, answer } of all) {
      if (at >= text.length) continue;
      answer.record.text += text.slice(at, at + size);
      answer.show();
    }
    await pause();
  }
  for (const { answer } of all) answer.finish();
  const busy = ({ answer }) => answer.due || answer.markdown?.busy;
  while (log.querySelector("[data-waits]") || all.some(busy)) await pause();
  return all.every(({ text, answer }) => answer.record.text === text);
}"""


def harm(page: Page) -> list[str]:
    """Return what should not be in the page: elements and attributes that run or load something."""
    found: list[str] = page.evaluate(
        """() => {
          const found = window.hacked ? ["a script ran"] : [];
          const good = /^(https?:|mailto:|#\\w+$|data:image\\/(png|jpeg|gif|webp);base64,)/i;
          for (const one of document.querySelectorAll("#log *, #side *")) {
            const bad = (name) => name.startsWith("on") || (name === "id" && one.closest("#log"));
            const addresses = ["href", "src", "xlink:href", "srcset", "action", "data"];
            const loads = addresses.some((name) => one.hasAttribute(name) && !good.test(one.getAttribute(name)));
            const runs = one.matches(`#log :is(
              script, iframe, object, embed, style, link, meta, base, form, input, video, audio, body, template)`);
            if (runs || loads || one.getAttributeNames().some(bad)) found.push(one.outerHTML);
          }
          return found;
        }"""
    )
    return found


def unguarded(browser: Browser) -> AbstractContextManager[Page]:
    """Open a page without its content security policy, and check its requests to other hosts, and its errors."""
    return watched_page(browser, "about:", "data:image/png", bypass_csp=True)


def test_a_script_that_ran_is_noticed_after_the_page_has_left(browser: Browser) -> None:
    with pytest.raises(AssertionError, match="a script set"), unguarded(browser) as page:
        page.set_content(f"<img src=x onerror='{HACK};location.href=\"about:blank#left\"'>")
        page.wait_for_url("about:blank#left")
        page.goto("about:blank")


def test_no_payload_runs_or_loads_anything(browser: Browser) -> None:
    assert len(PAYLOADS) == 51
    text = "\n\n".join(PAYLOADS)
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    with unguarded(browser) as page, Simulator(Answer(pieces, PAYLOADS)) as simulator, chat(page, simulator):
        say(page, text)  # as a person sees it: the message, the title in the list, reasoning, and one answer
        over(page)
        assert harm(page) == []
        expect(page.locator(".user .body")).to_contain_text(SCRIPT)
        assert plain(page) == text
        for size in (1, 11):
            assert page.evaluate(GROW, [PAYLOADS, size])
            assert page.locator(".answer").count() == len(PAYLOADS)
            assert harm(page) == []


def test_no_name_of_a_stored_conversation_runs_or_loads_anything(browser: Browser) -> None:
    turns: list[dict[str, Any]] = []
    for number, text in enumerate(PAYLOADS):
        call = {"id": text, "name": text, "arguments": text, "progress": text, "result": text, "images": [text]}
        answer = {
            "text": text,
            "node": text,
            "note": text,
            "foot": text,
            "reasoning": text,
            "over": True,
            "calls": [call],
            "images": [text],
            "sources": [{"url": text, "title": text, "quote": text}],
            "trouble": text,
        }
        file = {"name": text, "media_type": text, "data": text, "preview": text}
        turns.append(
            {
                "id": f"t{number}",
                "parent": f"t{number - 1}" if number else "",
                "text": text,
                "files": [file],
                "answers": [answer],
            }
        )
    record = {"id": "stored", "title": PAYLOADS[0], "updated": 1, "turns": turns}
    with unguarded(browser) as page, Simulator("x") as simulator, chat(page, simulator) as url:
        page.evaluate(
            """record => new Promise((done, fail) => {
              const opening = indexedDB.open(`streamcore:${location.pathname}`);
              opening.onsuccess = () => {
                const change = opening.result.transaction("conversations", "readwrite");
                change.objectStore("conversations").put(record);
                change.oncomplete = () => { opening.result.close(); done(); };
                change.onerror = fail;
              };
            })""",
            record,
        )
        page.goto("about:blank")
        page.goto(f"{url}/#stored")
        expect(page.locator(".user")).to_have_count(len(PAYLOADS))
        expect(page.locator(".answer")).to_have_count(len(PAYLOADS))
        page.evaluate("document.querySelectorAll('#log details').forEach((one) => { one.open = true; })")
        assert harm(page) == []
        expect(page.locator("#conversations a").first).to_have_text(SCRIPT)


def test_forty_pathological_inputs_end(browser: Browser) -> None:
    """Each is shown, and the page then accepts a message; text that takes too long or is nested too deeply is plain."""
    assert len(INPUTS) == 40
    with unguarded(browser) as page, Simulator("Hello.") as simulator, chat(page, simulator):
        for name, text in INPUTS.items():
            assert page.evaluate(GROW, [[text], 4_000]), name
            assert harm(page) == [], name
        page.reload()
        say(page, "next")
        over(page)
        expect(page.locator(".answer .body").last).to_have_text("Hello.")
