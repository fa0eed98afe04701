"""Sentences for clients name no folder of this machine."""

import pytest

from ovi_studio.web.public_text import for_page, without_folders, written_for_anyone
from ovi_studio.web.views import notice_html


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        (
            "There is no space left in /home/me/My Clips/outputs; free some.",
            "There is no space left in outputs; free some.",
        ),
        ("There is no picture '/x/y z/p.png'; check it.", "There is no picture 'p.png'; check it."),
        ("The folder /srv is not writable.", "The folder srv is not writable."),
        ("The folder C:\\Users\\me\\clips is full.", "The folder clips is full."),
        ("No file ~/a/b.csv (/etc/x), --out=/a/b.", "No file b.csv (x), --out=b."),
        ("[Errno 2] No such file or directory: '/a/b'", "[Errno 2] No such file or directory: 'b'"),
        # What looks like a path and is none
        ("See https://huggingface.co/a/b.", "See https://huggingface.co/a/b."),
        ("and/or 24/7, write <S> for “</S>”.", "and/or 24/7, write <S> for “</S>”."),
        ("a / b", "a / b"),
    ],
)
def test_a_path_is_only_its_last_part(sentence: str, shown: str) -> None:
    assert without_folders(sentence) == shown


def test_a_command_to_copy_stays_whole_on_the_page_only() -> None:
    sentence = "In /a/b, `python -m ovi_studio download x --ckpt-dir /a/b` fetches it."
    assert for_page(sentence) == "In b, `python -m ovi_studio download x --ckpt-dir /a/b` fetches it."
    assert "/a" not in without_folders(sentence)
    written_for_anyone(True)
    try:
        assert "/a" not in for_page(sentence)
    finally:
        written_for_anyone(False)
    assert "/srv/clips" not in notice_html("The folder /srv/clips is full.", "Not queued")
