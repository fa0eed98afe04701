"""The helper for prompts, against a real server: what it is sent, what may come back, and what is refused."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer, chat_server, fails, send, start, stream
from engine_helpers import wait_for

from ovi_studio.core.errors import JobError
from ovi_studio.core.variants import published_variants
from ovi_studio.runtime import chat_process
from ovi_studio.services.prompt_helper import HelperSettings, Message, Suggestion, local_chat, suggest
from ovi_studio.services.prompt_helper.chat import Deadline
from ovi_studio.services.prompt_helper.local_chat import LocalChat
from ovi_studio.services.prompt_helper.suggestion import Edit, NoSuggestion, suggest_all

FIVE, TEN = (published_variants()[name] for name in ("720x720_5s", "960x960_10s"))
BETTER = "A red ball bounces slowly on a wet wooden floor in warm light. Audio: Soft thuds of rubber, a quiet room."


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def ask(server: ChatServer, prompt: str, variant: Any = TEN, seconds: float = 20, **others: Any) -> Suggestion:
    chat = HelperSettings(server.address, "tiny", "secret").connect()
    try:
        return suggest(chat, prompt, variant, seconds=seconds, **others)
    finally:
        chat.close()


def refusal(server: ChatServer, answer: Any, prompt: str = "a red ball", **others: Any) -> str:
    server.answers = [answer]
    with pytest.raises(JobError) as caught:
        ask(server, prompt, **others)
    return str(caught.value)


@pytest.mark.parametrize("streams", [True, False], ids=["streamed", "whole"])
def test_a_suggestion_is_the_servers_prompt_and_the_model_is_told_the_format(server: ChatServer, streams: bool) -> None:
    server.streams = streams
    server.answers = [BETTER]
    found = ask(server, "a red ball")
    assert (found.before, found.after) == ("a red ball", BETTER)
    body = server.asked[0]
    assert body["model"] == "tiny"
    system, question = (message["content"] for message in body["messages"])
    for told in ("10 seconds", "Audio: Rain", "at most 25 words"):
        assert told in system
    assert question.endswith("a red ball")
    assert server.keys == ["Bearer secret"]


def test_the_other_variants_tag_is_put_right() -> None:
    with chat_server() as server:
        server.answers = [BETTER]
        after = ask(server, "a red ball", FIVE).after
    assert after.endswith("<AUDCAP>Soft thuds of rubber, a quiet room.<ENDAUDCAP>")


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>The user wants a ball. <S></think>\n{BETTER}",
        f"```text\n{BETTER}\n```",
        f'"{BETTER}"',
        f"**Prompt:** {BETTER}",
        BETTER.replace(". Audio:", ".\n\nAudio:"),
    ],
    ids=["thoughts", "fence", "quotes", "label", "lines"],
)
def test_what_models_put_around_a_prompt_is_removed(server: ChatServer, answer: str) -> None:
    server.answers = [answer]
    assert ask(server, "a red ball").after == BETTER


def test_adapters_patterns_and_speech_are_kept(server: ChatServer) -> None:
    prompt = "a {red|blue} ball in __weather__, a man says, <S>Guten Morgen, Welt.<E> <lora:film:0.8>"
    after = (
        "A {red|blue} ball lies in the street in __weather__. A tall man looks at it and says, "
        "<S>Guten Morgen, Welt.<E> Audio: Rain, a warm voice."
    )
    server.answers = [after]
    found = ask(server, prompt)
    assert found.after == f"{after} <lora:film:0.8>"
    assert "lora" not in str(server.asked)


@pytest.mark.parametrize(
    ("prompt", "wrong", "told"),
    [
        ("a {red|blue} ball", "A red ball bounces. Audio: Thuds.", "{red|blue} is missing"),
        ("a ball in __weather__", "A ball in rain. Audio: Rain.", "__weather__ is missing"),
        ("a red ball", "A {red|green} ball bounces. Audio: Thuds.", "{red|green} was not in the prompt"),
        ("he says, <S>Hello.<E>", "He says, <S>Hello, my friend.<E> Audio: A voice.", "word for word"),
        ("he says, <S>Hello.<E>", "He smiles. Audio: A voice.", "<S>Hello.<E>"),
        ('he says "Guten Tag."', "He says, <S>Good day.<E> Audio: A voice.", "<S>Guten Tag.<E>"),
        ("a red ball", "A red ball. A man says, <S>Look!<E> Audio: Thuds.", "Nobody speaks"),
        ("a red ball on the floor", "<div>A red ball</div> on the floor.", "HTML"),
        ("a red ball on the floor", "Une balle rouge rebondit lentement sur un vieux plancher.", "language"),
        ("a red ball", "一个红色的球在地板上弹跳。", "language"),
        ("a red ball", "<think>never ends", "no text"),
    ],
)
def test_an_answer_that_does_not_fit_is_asked_for_once_more_and_then_refused(
    server: ChatServer, prompt: str, wrong: str, told: str
) -> None:
    server.answers = [wrong]
    with pytest.raises(JobError, match="your prompt is unchanged") as caught:
        ask(server, prompt)
    assert len(server.asked) == 2
    assert server.asked[1]["messages"][-2]["content"].strip() == wrong
    assert told in server.asked[1]["messages"][-1]["content"]
    assert told in str(caught.value)


def test_a_second_answer_that_fits_is_taken(server: ChatServer) -> None:
    server.answers = ["<html>", BETTER]
    assert ask(server, "a red ball").after == BETTER


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (fails(401), "refused the key; set the right one in $OVI_STUDIO_HELPER_KEY"),
        (fails(404), "no such model"),
        (fails(429), "too many questions"),
        (fails(503), "failed (HTTP 503)"),
        (fails(400, '{"error": {"message": "this model\\ncannot see."}}'), "failed (HTTP 400: this model cannot see)"),
        (fails(500, '{"error": "out of memory"}'), "failed (HTTP 500: out of memory)"),
        (fails(500, "<html>oops</html>"), "failed (HTTP 500)"),
        (fails(307, Location="http://127.0.0.1:9/v1/chat/completions"), "is not followed"),
        (fails(200, "<html><body>It works!</body></html>"), "does not answer as an OpenAI-compatible server"),
        (fails(200, '{"error": {"message": "out of memory"}}'), "reports an error: out of memory"),
        (fails(200, '["no", "object"]'), "does not answer as an OpenAI-compatible server"),
        (lambda handler: stream(handler, "A red", reason="length"), "cut its answer off"),
        (lambda handler: stream(handler, "", reason="content_filter"), "declined"),
        (lambda handler: stream(handler, "word " * 8000), "without end"),
        ("", "no usable prompt (There is no text in it)"),
    ],
)
def test_a_server_that_fails_is_one_sentence(server: ChatServer, answer: Any, sentence: str) -> None:
    said = refusal(server, answer)
    assert sentence in said
    assert "secret" not in said
    assert said.startswith(f"The server at {server.address.removeprefix('http://')} (tiny)")


def test_a_slow_answer_ends_at_the_time_limit(server: ChatServer) -> None:
    began = time.monotonic()
    said = refusal(server, lambda handler: stream(handler, "word " * 200, pause=0.05), seconds=0.3)
    assert "did not finish its answer within 0.3 seconds" in said
    assert time.monotonic() - began < 2


def test_a_server_that_says_nothing_ends_at_the_time_limit(server: ChatServer) -> None:
    def silent(handler: Any) -> None:
        start(handler, "text/event-stream")
        send(handler, '{"choices": []}')
        time.sleep(1)

    assert "within 0.3 seconds" in refusal(server, silent, seconds=0.3)


@pytest.mark.slow
def test_an_answer_that_stops_late_ends_at_the_time_limit_too(server: ChatServer) -> None:
    over = threading.Event()

    def stalls(handler: Any) -> None:
        start(handler, "text/event-stream")
        for _ in range(5):
            send(handler, '{"choices": [{"delta": {"content": "A "}}]}')
            time.sleep(0.17)
        over.wait(10)

    began = time.monotonic()
    try:
        assert "within 1 seconds" in refusal(server, stalls, seconds=1)
        assert time.monotonic() - began < 1.7
    finally:
        over.set()


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    chat = HelperSettings("http://127.0.0.1:9", "tiny").connect()
    with pytest.raises(JobError, match=r"The server at 127.0.0.1:9 \(tiny\) does not answer; start it"):
        suggest(chat, "a red ball", TEN, seconds=5)


def test_long_and_empty_prompts_are_not_sent(server: ChatServer) -> None:
    server.answers = [BETTER]
    with pytest.raises(JobError, match="4001 characters; shorten it to 4000"):
        ask(server, "a" * 4001)
    with pytest.raises(JobError, match="no prompt yet"):
        ask(server, " <lora:film> ")
    assert not server.asked


@pytest.mark.slow
def test_a_prompt_of_the_greatest_length_is_sent_and_an_answer_beyond_it_refused(server: ChatServer) -> None:
    longest = ("a red ball " * 400)[:3999] + "s"
    server.answers = [BETTER]
    assert ask(server, longest).after == BETTER
    assert longest.strip() in server.asked[0]["messages"][1]["content"]
    said = refusal(server, "A red ball on the floor. " * 170)
    assert "more than 4000 characters" in said
    assert "your prompt is unchanged" in said


def test_a_picture_is_sent_where_there_is_one_and_needs_no_prompt(server: ChatServer) -> None:
    server.answers = [BETTER]
    assert ask(server, "", picture=b"\xff\xd8picture").after == BETTER
    text, picture = server.asked[0]["messages"][1]["content"]
    assert "begins with this picture" in text["text"]
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_the_difference_gives_both_prompts_again() -> None:
    found = Suggestion("a red ball bounces", "a large red ball rolls <S>Hi.<E>")
    kept_or = {
        edit: "".join(text for kind, text in found.changes if kind in (Edit.KEPT, edit))
        for edit in (Edit.REMOVED, Edit.ADDED)
    }
    assert kept_or == {Edit.REMOVED: found.before, Edit.ADDED: found.after}
    assert (Edit.KEPT, " red ball ") in found.changes


def test_of_many_prompts_each_has_its_own_answer(server: ChatServer) -> None:
    server.answers = [BETTER, fails(503), BETTER]
    done: list[None] = []
    chat = HelperSettings(server.address, "tiny").connect()
    found = list(suggest_all(chat, ["a ball", "a cube", "a ring"], TEN, 20, lambda: done.append(None)))
    assert [type(each) for each in found] == [Suggestion, NoSuggestion, Suggestion]
    assert len(done) == 3


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("localhost:11434", "not an address such as"),
        ("ftp://localhost", "not an address such as"),
        ("http://user:pass@localhost", "must not contain a password"),
        ("http://[", "not an address such as"),
    ],
)
def test_an_address_that_is_none_is_refused_at_the_start(address: str, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        HelperSettings(address, "tiny")


def test_the_key_is_not_shown() -> None:
    settings = HelperSettings("http://localhost:11434", "tiny", "secret")
    assert "secret" not in repr(settings)
    assert "secret" not in settings.place
    assert not dataclasses.replace(settings, address="", model="").given


@pytest.mark.slow
def test_a_local_model_answers_from_a_process_of_its_own(tmp_path: Path) -> None:
    write_chat_model(tmp_path, says=BETTER)
    chat = HelperSettings(model=str(tmp_path)).connect()
    try:
        assert suggest(chat, "a red ball", TEN, seconds=60).after == BETTER
        assert suggest(chat, "a small red ball", TEN, seconds=60).after == BETTER
    finally:
        chat.close()


@pytest.mark.slow
def test_what_a_local_model_cannot_do_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a chat model that can be loaded here"):
        chat_process.load(str(tmp_path))
    write_chat_model(tmp_path, says=BETTER, ends=False)
    model = chat_process.load(str(tmp_path))
    with pytest.raises(ValueError, match="did not end its answer"):
        model.answer([Message("user", "a red ball").to_dict()])
    with pytest.raises(ValueError, match="cannot look at pictures"):
        model.answer([Message("user", "", b"picture").to_dict()])


def write_chat_model(folder: Path, says: str, ends: bool = True) -> None:
    """Write a tiny chat model that says one thing: all tokens are equally probable, and the first one is taken."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[END]", says, "[UNK]"] if ends else [says, "[END]", "[UNK]"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="[END]")
    fast.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    fast.save_pretrained(folder)
    end = words.index("[END]")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), eos_token_id=end, **sizes))
    model.lm_head.weight.data.zero_()
    model.generation_config.begin_suppress_tokens = [end]
    model.save_pretrained(folder)


def test_a_studio_that_closes_does_not_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(local_chat.sys, "executable", str(sleeper))
    chat = LocalChat("model", "a model on this machine")
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(chat.answer, [Message("user", "a red ball")], Deadline(30))
        wait_for(lambda: chat._process is not None)
        began = time.monotonic()
        chat.close()
        assert time.monotonic() - began < 10
        with pytest.raises(JobError, match="ended without an answer"):
            asked.result()
