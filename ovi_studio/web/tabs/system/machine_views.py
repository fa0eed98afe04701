"""HTML for the machines of a farm in the System tab. Names and errors come from other machines, so all is escaped."""

import time
from collections.abc import Sequence
from html import escape

from ovi_studio.farm.roster import MachineState, Order
from ovi_studio.services.machines import MachineFigures
from ovi_studio.web.tabs.system import texts
from ovi_studio.web.views import format_seconds

RESUME = "resume"
"""The name of the button's act that takes an order back."""
_NO_ORDERS = '<div class="orders"></div>'
_KINDS = {
    MachineState.IDLE: "ok",
    MachineState.WORKING: "ok",
    MachineState.SET_ASIDE: "problem",
}


def machines_html(found: Sequence[MachineFigures], dashboard: str | None = None) -> str:
    """Render the engines of this machine and the other machines; `dashboard` is the address of Ray's."""
    link = ""
    if dashboard is not None:
        link = (
            f'<a href="{escape(dashboard)}" target="_blank" rel="noopener noreferrer" '
            f'title="{texts.DASHBOARD_HINT}">{texts.DASHBOARD}</a>'
        )
    rows = "".join(map(_machine, found))
    alone = "" if any(one.elsewhere for one in found) else f'<p class="quiet">{texts.NO_MACHINES}</p>'
    return (
        f'<div class="machines-top"><h2>{texts.MACHINES}</h2>{link}</div><ul class="panel machines">{rows}</ul>{alone}'
    )


def _machine(one: MachineFigures) -> str:
    name = escape(one.name)
    state = f'<span class="badge {_KINDS.get(one.state, "note")}">{texts.machine_state(one.state, one.order)}</span>'
    card = f'<span class="quiet">{escape(one.card)}</span>' if one.card else ""
    error = f'<p class="error">{escape(one.error)}</p>' if one.error else ""
    facts = "".join(f"<div><dt>{title}</dt><dd>{escape(text)}</dd></div>" for title, text in _facts(one))
    acts = f'<div class="orders" role="group" aria-label="{name}">{_acts(one)}</div>' if one.elsewhere else _NO_ORDERS
    return (
        f'<li data-machine="{name}"><div class="who"><h3>{name}</h3>{card}{state}</div>'
        f"<dl>{facts}</dl>{acts}{error}</li>"
    )


def _facts(one: MachineFigures) -> list[tuple[str, str]]:
    since = texts.NOT_KNOWN if one.since is None else format_seconds(60 * round(max(0.0, time.time() - one.since) / 60))
    return [
        (texts.MEMORY_OF, texts.memory(one.memory, one.free)),
        (texts.MAKES, ", ".join(one.variants) or texts.MAKES_NOTHING),
        (texts.SPEED, texts.speed(one.clips_per_hour, one.seconds_per_step, one.measured)),
        (texts.CLIPS_MADE, str(one.clips)),
        (texts.SINCE, since),
    ]


def _acts(one: MachineFigures) -> str:
    buttons = []
    offered = tuple(Order) if one.order is not Order.REMOVE else ()
    if one.order is not None:
        buttons.append(_button(RESUME, texts.RESUME, texts.RESUME_HINT, one.name))
    elif one.state is MachineState.SET_ASIDE:
        buttons.append(_button(RESUME, texts.TRY_AGAIN, texts.TRY_AGAIN_HINT, one.name))
        offered = (Order.REMOVE,)
    buttons += [
        _button(order.value, texts.ORDERS[order], texts.ORDER_HINTS[order], one.name)
        for order in offered
        if order is not one.order
    ]
    return "".join(buttons)


def _button(act: str, word: str, hint: str, name: str) -> str:
    return (
        f'<button type="button" class="plain" data-act="order" data-order="{act}" data-name="{escape(name)}" '
        f'title="{hint}" aria-label="{word}: {escape(name)}">{word}</button>'
    )
