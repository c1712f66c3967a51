"""runtime.chat: the template of a model folder turns messages into text, in Jinja's sandbox."""

import json

import pytest

from unmul.errors import TokenizerError, UsageError
from unmul.runtime.chat import ChatTemplate

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
SIMPLE = "{{ bos_token }}" + TURNS + "{% if add_generation_prompt %}<assistant>{% endif %}"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who are you?"}]


def folder_with(folder, **settings):
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("end", ["</s>", {"content": "</s>", "lstrip": False}], ids=["bare", "object"])
def test_messages_become_the_text_that_the_model_goes_on_from(tmp_path, end):
    folder = folder_with(tmp_path, chat_template=SIMPLE, eos_token=end, bos_token=None)
    text = ChatTemplate(folder).render(MESSAGES)
    assert text == "<system>Be brief.</s><user>Who are you?</s><assistant>"


def test_of_several_templates_the_default_is_taken(tmp_path):
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert ChatTemplate(folder_with(tmp_path, chat_template=named)).render(MESSAGES) == "plain"


def test_a_template_in_a_file_of_its_own_comes_first(tmp_path):
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert ChatTemplate(folder_with(tmp_path, chat_template="from the settings")).render(MESSAGES) == "from the file"


def test_a_folder_without_a_template_says_what_works_instead(tmp_path):
    with pytest.raises(UsageError, match=r"has no chat template: use /v1/completions, or add chat_template"):
        ChatTemplate(folder_with(tmp_path, eos_token="</s>"))
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(UsageError, match="has no chat template"):
        ChatTemplate(tmp_path)


def test_a_template_may_refuse_the_order_of_roles(tmp_path):
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('the user speaks first') }}{% endif %}"
    with pytest.raises(UsageError, match="the user speaks first"):
        ChatTemplate(folder_with(tmp_path, chat_template=source)).render(MESSAGES)


def test_a_damaged_template_is_named_when_the_folder_is_opened(tmp_path):
    with pytest.raises(TokenizerError, match="is not valid"):
        ChatTemplate(folder_with(tmp_path, chat_template="{% for %}"))


def test_a_template_cannot_reach_out_of_its_sandbox(tmp_path):
    source = "{{ messages.__class__.__mro__[1].__subclasses__() }}"
    with pytest.raises(UsageError, match="unsafe"):
        ChatTemplate(folder_with(tmp_path, chat_template=source)).render(MESSAGES)
