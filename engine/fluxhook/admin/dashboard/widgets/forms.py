"""Forms of plain HTML: the browser keeps what is typed, and sends it when the form is submitted."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from fluxhook.admin.dashboard.widgets.dom import button, link, tag, text

__all__ = ["Form", "filter_form", "next_page"]

_INDEX: Final = re.compile(r"\[\d+\]")
#: One event with every named control's value; nothing is kept on the server while it is typed.
_COLLECT: Final = "(e) => { e.preventDefault(); emit(Object.fromEntries(new FormData(e.target))); }"
#: What is empty does not come into the address.
_LEAVE_OUT: Final = "(e) => { for (const [k, v] of [...e.formData]) if (!v) e.formData.delete(k); }"


class Form:
    """Fields with their labels, hints and errors. Enter submits."""

    def __init__(
        self,
        label: str,
        on_submit: Callable[[dict[str, str]], Awaitable[None]],
        values: Mapping[str, str] | None = None,
    ) -> None:
        """Make a form; `values` are what stands in the fields at first."""
        self._values = values or {}
        self._fields: dict[str, tuple[Element, Any, Element]] = {}

        async def submit(event: GenericEventArguments) -> None:
            self.show_faults(())
            await on_submit({name: str(value).strip() for name, value in event.args.items()})

        with tag("form", "form", aria_label=label, novalidate=True) as self.element:
            self._summary = text("div", "", "form-error", role="alert")
            self._summary.set_visibility(False)
        self.element.on("submit", submit, js_handler=_COLLECT)

    def __enter__(self) -> Form:
        self.element.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.element.__exit__(*raised)

    def field(
        self, name: str, label: str, *, hint: str = "", kind: str = "input", **attributes: Any
    ) -> Element:
        """Add a labelled control; `name` is the path that an error of it has."""
        with tag("div", "field") as box:
            caption = text("label", label)
            control = tag(kind, name=name, autocomplete="off", spellcheck="false", **attributes)
            caption.props["for"] = control.html_id
            if kind != "select" and (value := self._values.get(name)):
                control.props["defaultValue"] = value
            said = text("p", "", "error")
            said.set_visibility(False)
            described = said.html_id
            if hint:
                described += " " + text("p", hint, "help").html_id
            control.props["aria-describedby"] = described
        self._fields[name] = (control, said, box)
        return control

    def choice(
        self, name: str, label: str, options: Sequence[tuple[str, str]], *, hint: str = ""
    ) -> None:
        """Add one of some values, each with what is said of it; at first the form's, or the first."""
        chosen = self._values.get(name)
        with self.field(name, label, hint=hint, kind="select"):
            for value, said in options:
                text("option", said, value=value, selected=value == chosen or None)

    def check(self, name: str, label: str) -> None:
        checked = bool(self._values.get(name))
        with tag("div", "check"), tag("label"):
            tag("input", type="checkbox", name=name, value="yes", checked=checked or None)
            text("span", label)

    @contextmanager
    def more(self, title: str) -> Iterator[None]:
        """Fold away fields that few need."""
        with tag("details", "more"):
            text("summary", title)
            with tag("div", "more-fields"):
                yield

    def show_faults(self, faults: Sequence[tuple[str, str, str]]) -> None:
        """Show paths, messages and remedies: each beside its field, or at the top where it has none."""
        mine: dict[str, list[str]] = {}
        rest: list[str] = []
        for path, message, remedy in faults:
            field = self._field_of(path)
            said = message.rstrip(".") + "."
            if remedy:
                said += f" {remedy[:1].upper()}{remedy[1:].rstrip('.')}."
            if field is None:
                rest.append(f"{path}: {said}" if path else said)
            else:
                mine.setdefault(field, []).append(said[:1].upper() + said[1:])
        for name, (control, error, box) in self._fields.items():
            told = " ".join(mine.get(name, ()))
            error.say(told)
            error.set_visibility(bool(told))
            box.classes(**({"add": "bad"} if told else {"remove": "bad"}))
            control.props.set_optional("aria-invalid", "true" if told else None)
        self._summary.say(" ".join(rest))
        self._summary.set_visibility(bool(rest))
        if mine:
            first = next(control for name, (control, _, _) in self._fields.items() if name in mine)
            self.element.client.run_javascript(
                f"const c = document.getElementById('{first.html_id}');"
                "const d = c.closest('details'); if (d) d.open = true; c.focus();"
            )
        elif rest:
            self.element.client.run_javascript(
                "requestAnimationFrame(() => "
                f"document.getElementById('{self._summary.html_id}')?.scrollIntoView"
                "({block: 'nearest'}))"
            )

    def _field_of(self, path: str) -> str | None:
        """Return the field of a path: `events[0]` is the field events, `secrets[0]` the one for the
        secret."""
        plain = _INDEX.sub("", path)
        plain = "secret" if plain == "secrets" else plain
        return plain if plain in self._fields else None


def filter_form(
    action: str,
    fields: Sequence[tuple[str, str, str, Sequence[tuple[str, str]] | str]],
    values: Mapping[str, str | None],
) -> None:
    """Add a form that asks for the page again, with its fields in the address. Each field has a
    name, a label, classes, and either the options that there are, or an example."""
    # Without `autocomplete` a browser that goes back shows what was chosen since, not what is listed.
    with tag(
        "form",
        "filters",
        method="get",
        action=action,
        role="search",
        aria_label="Filter",
        autocomplete="off",
    ) as form:
        for name, label, classes, what in fields:
            with tag("div", f"field {classes}"):
                caption = text("label", label)
                value = values.get(name) or ""
                if isinstance(what, str):
                    control = tag("input", name=name, placeholder=what, spellcheck="false")
                    control.props["defaultValue"] = value
                else:
                    known = any(option == value for option, _ in what)  # or else it is a name
                    with tag("select", name=name) as control:
                        for option, said in what:
                            chosen = value == (option if known else said)
                            text("option", said, value=option, selected=chosen or None)
                caption.props["for"] = control.html_id
        with tag("div", "filter-buttons"):
            button("Search", "search", "primary", type="submit")
            link("Clear", action, "button")
    form.on("formdata", js_handler=_LEAVE_OUT)


def next_page(
    place: Element,
    path: str,
    values: Mapping[str, str | None],
    cursor: str | None,
    rest: str | None,
) -> None:
    """Add the ways to the first page and to the next one; `rest` is the cursor of the latter."""
    query = {name: value for name, value in values.items() if value}
    with place:
        if cursor is not None:
            link("Newest", f"{path}?{urlencode(query)}", "button")
        if rest is not None:
            link("Older", f"{path}?{urlencode({**query, 'cursor': rest})}", "button")
