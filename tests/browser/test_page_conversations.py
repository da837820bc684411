"""Test the chat page's conversations in a real Chromium: the list, addresses, versions, tabs, users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Cookie, FastAPI, HTTPException
from playwright.sync_api import Page, expect

from streamcore.testing import Answer, Simulator
from streamcore.testing.simulator.answers import Asked
from streamcore.web import Feedback, PageOptions, router
from tests.browser.test_chat_page import ROOT, chat, over, say
from tests.serving import serving
from tests.support import provider_at

pytestmark = [pytest.mark.real, pytest.mark.long]


def echo(asked: Asked) -> Answer:
    """Answer with the message."""
    return Answer([f"You said {asked.text}", "."])


def sent(simulator: Simulator) -> int:
    """Return the number of messages in the last request to the model."""
    return len(simulator.requests[-1].body["messages"])


def ask(page: Page, text: str) -> None:
    """Send a message and wait for the end of its answer."""
    say(page, text)
    expect(page.locator(".answer .body").last).to_contain_text(f"You said {text}")
    over(page)


def titles(page: Page) -> list[str]:
    return page.locator("#conversations a").all_text_contents()


def menu(page: Page, title: str, action: str) -> None:
    item = page.locator("#conversations li").filter(has_text=title)
    item.locator("summary").click()
    item.get_by_role("button", name=action).click()


def test_the_list_finds_renames_exports_and_deletes(page: Page, tmp_path: Path) -> None:
    with Simulator(echo) as simulator, chat(page, simulator) as url:
        ask(page, "apples")
        address = page.url
        assert address != f"{url}/"
        page.get_by_role("button", name="New", exact=True).click()
        ask(page, "pears")
        expect(page.locator("#conversations a")).to_have_text(["pears", "apples"])
        page.get_by_label("Search").fill("said app")  # a text of the answer
        expect(page.locator("#conversations a")).to_have_text(["apples"])
        page.get_by_label("Search").fill("")
        menu(page, "apples", "Rename")
        page.get_by_role("dialog").get_by_label("Rename").fill("Fruit")
        page.keyboard.press("Enter")
        expect(page.locator("#conversations a")).to_have_text(["Fruit", "pears"])
        with page.expect_download() as begun:
            menu(page, "Fruit", "Export as Markdown")
        assert begun.value.suggested_filename == "Fruit.md"
        begun.value.save_as(tmp_path / "a.md")
        text = "# Fruit\n\n## You\n\napples\n\n## Answer\n\nYou said apples.\n"
        assert (tmp_path / "a.md").read_text("utf-8") == text
        with page.expect_download() as begun:
            menu(page, "Fruit", "Export as JSON")
        begun.value.save_as(tmp_path / "a.json")
        assert json.loads((tmp_path / "a.json").read_text("utf-8"))["turns"][0]["text"] == "apples"
        page.goto("about:blank")
        page.goto(address)  # a bookmark
        expect(page.locator(".user .body")).to_have_text("apples")
        ask(page, "more")
        assert sent(simulator) == 4
        menu(page, "Fruit", "Delete")
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator("#conversations a")).to_have_text(["pears"])
        expect(page.locator("article")).to_have_count(0)
        page.goto("about:blank")
        page.goto(address)
        expect(page.locator(".notice")).to_contain_text("does not exist here")


def test_going_to_another_conversation_while_one_is_answered(page: Page) -> None:
    slow = Answer([f"w{number} " for number in range(400)])

    def answer(asked: Asked) -> Answer:
        return slow if asked.text == "slow" else echo(asked)

    with Simulator(answer, rate=100) as simulator, chat(page, simulator):
        ask(page, "one")
        page.get_by_role("button", name="New", exact=True).click()
        say(page, "slow")
        expect(page.locator(".answer .body")).to_contain_text("w3 ")
        page.locator("#conversations a").filter(has_text="one").click()
        expect(page.locator(".answer .body")).to_have_text("You said one.")
        expect(page.locator("#stop")).to_be_hidden()
        page.go_back()
        expect(page.locator(".answer .body")).to_contain_text("w399 ", timeout=90_000)
        over(page)
        assert len(simulator.requests) == 2


def test_asking_again_and_editing_make_versions(page: Page) -> None:
    with Simulator(echo) as simulator, chat(page, simulator):
        ask(page, "one")
        ask(page, "two")
        ask(page, "three")
        page.locator("article.answer").nth(1).get_by_role("button", name="Ask again").click()
        expect(page.locator("article.user")).to_have_count(2)
        over(page)
        expect(page.locator(".versions")).to_have_text(["‹2/2›"])
        assert [one["content"] for one in simulator.requests[-1].body["messages"]][1:] == [
            *("one", "You said one.", "two")
        ]
        page.locator("article.user").nth(1).get_by_role("button", name="Edit").click()
        page.get_by_label("Edit the message").fill("zwei")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .body").last).to_have_text("You said zwei.")
        over(page)
        assert sent(simulator) == 4
        expect(page.locator(".versions")).to_have_text(["‹3/3›"])
        page.get_by_role("button", name="Previous version").click()
        expect(page.locator(".versions")).to_have_text(["‹2/3›"])
        page.get_by_role("button", name="Previous version").click()
        expect(page.locator(".user .body")).to_have_text(["one", "two", "three"])
        ask(page, "four")  # continues at the end of this version
        assert sent(simulator) == 8
        page.reload()
        expect(page.locator(".user .body")).to_have_text(["one", "two", "three", "four"])
        page.locator("article.user").first.get_by_role("button", name="Edit").click()
        page.get_by_label("Edit the message").fill("eins")
        page.keyboard.press("Enter")
        expect(page.locator(".answer .body").last).to_have_text("You said eins.")
        over(page)
        assert sent(simulator) == 2


def test_arrow_up_recalls_and_a_message_waits_for_the_end(page: Page) -> None:
    with (
        Simulator(
            lambda asked: Answer([*["w "] * (1000 if asked.text == "one" else 1), *echo(asked).tokens]), rate=100
        ) as simulator,
        chat(page, simulator),
    ):
        say(page, "one")
        expect(page.locator(".answer .body")).to_contain_text("w w")
        say(page, "two")
        expect(page.locator("#queue")).to_contain_text("Next: two")
        expect(page.locator(".answer .body")).to_have_count(2)
        over(page)
        expect(page.locator(".answer .body").last).to_contain_text("You said two.")
        assert sent(simulator) == 4
        box = page.locator("#input")
        box.focus()
        page.keyboard.press("ArrowUp")
        assert box.input_value() == "two"
        page.keyboard.press("ArrowUp")
        assert box.input_value() == "one"


def test_a_message_interrupts_if_the_operator_sets_that(page: Page) -> None:
    options = PageOptions(while_running="interrupt")
    endless = Answer(["w "] * 9000)
    with (
        Simulator(lambda asked: endless if asked.text == "one" else echo(asked), rate=100) as simulator,
        chat(page, simulator, page_options=options),
    ):
        say(page, "one")
        expect(page.locator(".answer .body")).to_contain_text("w w")
        say(page, "two")
        expect(page.locator(".answer .body").last).to_contain_text("You said two")
        over(page)
        expect(page.locator(".answer .note").first).to_have_text("Stopped.")


def test_two_tabs_show_the_same(page: Page) -> None:
    with (
        Simulator(lambda asked: Answer([*["w "] * 200, *echo(asked).tokens]), rate=100) as simulator,
        chat(page, simulator),
    ):
        say(page, "one")
        over(page)
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.locator(".answer .body")).to_contain_text("You said one")
        say(page, "two")
        expect(other.locator(".user .body")).to_have_text(["one", "two"])
        expect(other.locator(".answer .body").last).to_contain_text("w w w")
        expect(other.locator("#stop")).to_be_visible()
        for tab in (page, other):
            expect(tab.locator(".answer .body").last).to_contain_text("You said two.", timeout=90_000)
            over(tab)
        say(other, "three")
        expect(page.locator(".answer .body").last).to_contain_text("You said three.", timeout=90_000)
        over(page)
        assert (len(simulator.requests), sent(simulator)) == (3, 6)
        other.close()


def test_conversations_of_users_are_kept_by_the_service(page: Page) -> None:
    ratings: list[Feedback] = []

    def user(visitor: Annotated[str | None, Cookie()] = None) -> str:
        if visitor is None:
            raise HTTPException(401, "log in first")
        return visitor

    with Simulator(echo) as simulator:
        app = FastAPI()
        options = PageOptions(login_url="/login", on_feedback=ratings.append)
        provider = provider_at(simulator, "openai")
        app.include_router(router("chat", provider=provider, prompts_dir=ROOT / "prompts", auth=user, page=options))
        app.get("/login")(lambda: "the login of the application")
        with serving(app) as url:
            page.goto(url)
            expect(page.get_by_role("alert")).to_contain_text("You are not signed in.")
            page.get_by_role("button", name="Sign in").click()
            expect(page.locator("body")).to_contain_text("the login of the application")
            page.context.add_cookies([{"name": "visitor", "value": "ada", "url": url}])
            page.goto(url)
            ask(page, "secret")
            address = page.url
            page.get_by_role("button", name="Good answer").click()
            expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
            assert (ratings[0].owner, ratings[0].rating) == ("ada", "good")
            page.context.add_cookies([{"name": "visitor", "value": "bob", "url": url}])
            page.goto("about:blank")
            page.goto(address)
            expect(page.locator(".notice")).to_contain_text("does not exist here")
            assert titles(page) == []
            page.context.add_cookies([{"name": "visitor", "value": "ada", "url": url}])
            page.evaluate(
                "indexedDB.databases().then((all) => all.forEach(({ name }) => indexedDB.deleteDatabase(name)))"
            )
            page.goto("about:blank")
            page.goto(address)
            expect(page.locator(".answer .body")).to_contain_text("You said secret")
            expect(page.locator("#conversations a")).to_have_text(["secret"])
            expect(page.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")


def test_the_page_asks_for_a_key(page: Page) -> None:
    with Simulator(echo) as simulator, chat(page, simulator, api_keys=["correct"], ready=False) as url:
        page.goto(url)
        page.get_by_role("textbox", name="Key").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
        page.get_by_role("textbox", name="Key").fill("correct")
        page.keyboard.press("Enter")
        ask(page, "one")
        page.reload()  # the key is kept in the session
        expect(page.locator(".answer .body")).to_contain_text("You said one")
