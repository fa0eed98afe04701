"""Screenplays in Fountain form: their elements, and the shots that they become."""

import textwrap

import pytest

from ovi_studio.core.errors import JobError
from ovi_studio.film.fountain import Action, Dialogue, Line, SceneHeading, Transition, parse_fountain
from ovi_studio.film.screenplay import FADE_MS, read_screenplay
from ovi_studio.film.script import Character, Cut, Film, FromShot, SpeechRow


def elements(text: str) -> list[object]:
    return list(parse_fountain(textwrap.dedent(text)).elements)


def film(text: str, seconds: float = 5) -> Film:
    return read_screenplay(textwrap.dedent(text), "untitled", seconds)


def test_the_basic_elements() -> None:
    assert elements(
        """
        EXT. BRICK'S PATIO - DAY

        A gorgeous day.
        Still paragraph one.

        STEEL
        Does a bear crap?
        (sotto)
        In the woods?
        (beat)
        Yes.

        CUT TO:

        int house
        """
    ) == [
        SceneHeading("EXT. BRICK'S PATIO - DAY"),
        Action("A gorgeous day. Still paragraph one."),
        Dialogue("STEEL", (Line("Does a bear crap?"), Line("In the woods?", "sotto"), Line("Yes.", "beat"))),
        Transition("CUT TO:"),
        SceneHeading("int house"),
    ]


def test_every_element_can_be_forced() -> None:
    assert elements(
        """
        .SNIPER SCOPE POV

        !SCREAMS

        @McCLANE
        Yippie ki-yay!

        > Burn to white.

        > THE END <

        ...and so on.
        """
    ) == [
        SceneHeading("SNIPER SCOPE POV"),
        Action("SCREAMS"),
        Dialogue("McCLANE", (Line("Yippie ki-yay!"),)),
        Transition("Burn to white."),
        Action("THE END"),
        Action("...and so on."),
    ]


@pytest.mark.parametrize("heading", ["INT", "ext.", "EST.", "INT./EXT.", "Int/Ext", "I/E"])
def test_headings_begin_in_many_ways(heading: str) -> None:
    assert elements(f"\n{heading} HOUSE - DAY #110A#\n\n") == [SceneHeading(f"{heading} HOUSE - DAY")]


def test_lines_that_only_look_like_something_are_action() -> None:
    for text in (
        "INTERIOR thoughts.",
        "EXTRA, EXTRA",
        "A LOUD NOISE",
        "Mara\nspeaks.",
        "23\nis a number",
        "..two dots",
    ):
        assert [type(found) for found in elements(f"\n{text}\n\n")] == [Action]


def test_extensions_dual_dialogue_lyrics_and_empty_lines_in_dialogue() -> None:
    # Not through `elements`: the line with two spaces counts.
    assert parse_fountain(
        "MARA (V.O.) (cont’d)\n~Willy Wonka!\nHe is\n  \nan amazing man\n\nTOM (O.S.) ^\nYes\n"
    ).elements == (
        Dialogue("MARA", (Line("Willy Wonka! He is an amazing man"),), ("V.O.", "CONT'D")),
        Dialogue("TOM", (Line("Yes"),), ("O.S.",), dual=True),
    )


def test_what_is_for_the_writer_is_left_out_and_emphasis_taken_off() -> None:
    assert elements(
        """
        # Act one
        = Mara finds the lamp.
        ===

        *She* _looks **up**_ [[a note
        over lines]] at 4\\*4.

        /* boneyard

        MARA
        Gone.
        */

        MARA [[younger?]]
        ***Here!***
        """
    ) == [Action("She looks up at 4*4."), Dialogue("MARA", (Line("Here!"),))]


def test_the_title_page() -> None:
    found = parse_fountain("Title:\n    _**BRICK & STEEL**_\n    FULL RETIRED\nDraft date: 1/27/2012\n\nEXT. SEA\n")
    assert found.title_page == {"title": "BRICK & STEEL FULL RETIRED", "draft date": "1/27/2012"}
    assert found.elements == (SceneHeading("EXT. SEA"),)
    assert elements("CUT TO:\n\nEXT. SEA\n") == [Transition("CUT TO:"), SceneHeading("EXT. SEA")]


SCREENPLAY = """
Title: The lamp

INT. LIGHTHOUSE STAIRS - NIGHT

MARA (60, in a yellow raincoat) climbs. TOM, a thin boy, follows.

MARA
(whispering)
It burns.

TOM (O.S.)
What does?

DISSOLVE TO:

EXT. SEA - CONTINUOUS

Waves. Mara is a dot.

MARA
One two three four five six seven eight nine ten. Eleven twelve thirteen fourteen. Fifteen sixteen.
"""


def test_a_screenplay_becomes_a_film() -> None:
    found = film(SCREENPLAY)
    assert found.title == "The lamp"
    assert found.characters == (Character("Mara", "60 years old, in a yellow raincoat"), Character("Tom", "a thin boy"))
    assert found.places == {
        "INT. LIGHTHOUSE STAIRS - NIGHT": "Indoors, lighthouse stairs, night",
        "EXT. SEA": "Outdoors, sea",
    }
    first, second, third = found.shots
    assert first.prompt == "Mara climbs. Tom follows."
    assert first.speech == (
        SpeechRow("It burns.", "Mara", "says, whispering"),
        SpeechRow("What does?", "Tom", seen=False),
    )
    assert (second.prompt, second.place, second.fade_ms, second.begin) == (
        "Waves. Mara is a dot.", "EXT. SEA", FADE_MS, Cut(),
    )  # fmt: skip
    assert [row.said for row in second.speech] == ["One two three four five six seven eight nine ten."]
    assert (third.prompt, third.begin, third.fade_ms) == ("", FromShot(), 0)
    assert [row.said for row in third.speech] == ["Eleven twelve thirteen fourteen. Fifteen sixteen."]


def test_the_same_screenplay_makes_fewer_shots_of_longer_clips() -> None:
    assert len(film(SCREENPLAY, 10).shots) == 2


def test_a_screenplay_in_which_nobody_speaks_says_how_it_is_done() -> None:
    with pytest.raises(JobError, match="Nobody speaks in this screenplay; write a character's name in capitals"):
        film("EXT. SEA\n\nWaves.\n")
