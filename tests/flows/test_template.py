"""Templates: paths only, filled once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import template
from flows.template import TemplateError

KNOWN = {"day": "Friday", "find_slot.time": "ten fifteen", "env.URL": "http://127.0.0.1", "odd": "{day} {{ }}"}


def test_fills_paths_and_escapes() -> None:
    text = "On {day} at {find_slot.time}, {{not a field}}. {env.URL}/{day}"
    assert template.render(text, KNOWN.get) == "On Friday at ten fifteen, {not a field}. http://127.0.0.1/Friday"
    assert template.fields(text) == ("day", "find_slot.time", "env.URL")


def test_what_is_put_in_is_not_a_template() -> None:
    assert template.render("{odd}", KNOWN.get) == "{day} {{ }}"


def test_an_unknown_field_is_named_and_values_are_not() -> None:
    with pytest.raises(TemplateError) as caught:
        template.render("{day} {secret.code}", KNOWN.get)
    assert "secret.code" in str(caught.value)
    assert "Friday" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["{", "}", "{day", "day}", "{day!r}", "{day:>5}", "{a b}", "{}", "{0}", "{a[0]}", "{a.}", "{{day}"],
)
def test_anything_but_a_path_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        template.fields(text)


def test_limits() -> None:
    with pytest.raises(TemplateError):
        template.fields("a" * (template.MAX_TEMPLATE_CHARS + 1))
    with pytest.raises(TemplateError):
        template.render("{a}{a}{a}", lambda name: "x" * (template.MAX_RENDERED_CHARS // 2))


@given(st.text(alphabet="{}.ab ", max_size=40))
def test_any_text_is_filled_or_refused(text: str) -> None:
    try:
        names = template.fields(text)
    except TemplateError:
        return
    assert template.render(text, dict.fromkeys(names, "").get).count("a") <= text.count("a")


@given(st.text(max_size=60))
def test_escaping_gives_the_text_back(text: str) -> None:
    assert template.render(text.replace("{", "{{").replace("}", "}}"), lambda name: None) == text
